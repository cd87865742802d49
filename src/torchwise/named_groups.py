"""One transformation with parameter groups that are chosen by name, for pure functions."""

import inspect
from collections.abc import Callable
from typing import Any

import jax

from torchwise import trees
from torchwise.alphabetical import is_alphabetical
from torchwise.groups.selection import LEAVE_OUT, Entry, Groups, Selected, refuse_unknown, select
from torchwise.param_groups import ParamGroups, group_leaves
from torchwise.passing_order import passing_order
from torchwise.rule import Block
from torchwise.transformation import Chain, chain


def grouped(
    optimizer: Callable[..., Chain],
    params: Any,
    groups: Groups,
    *,
    per_parameter_steps: bool = False,
    **hyperparameters: Any,
) -> ParamGroups:
    """Return an optimizer whose hyperparameters differ by group, with groups chosen by name.

    The tree stays as it is, whatever the groups are. `to_state_dict` writes the groups as torch
    does, with parameters in the order in which dicts have their keys.

    Args:
        optimizer: a function of this package, as `torchwise.adamw`.
        params: the tree of parameters, of arrays or of `jax.ShapeDtypeStruct`.
        groups: a list of dicts with patterns on names under "match" and hyperparameters next to it,
            where the one without "match" is for the rest; a function `(name, array) -> dict | None`
            of hyperparameters; or a rule of `torchwise.groups`. Every parameter is in one group.
        per_parameter_steps: as for `torchwise.chain`.
        **hyperparameters: of groups that do not give their own.

    Returns:
        A transform, with `init`, `step` and `update`.

    Raises:
        TypeError: if `optimizer` is no function that makes a chain, or if a block in that chain
            needs the gradients of all groups, as `clip_grad_norm` does.
        ValueError: for a pattern that matches nothing, a parameter that two patterns match, an
            option that the optimizer does not have, and parameters without names.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> params = {"weight": jnp.ones(2), "bias": jnp.ones(2)}
        >>> no_decay = [{"match": "*bias", "weight_decay": 0.0}]
        >>> transform = torchwise.grouped(torchwise.sgd, params, no_decay, lr=0.5, weight_decay=1.0)
        >>> grads = {"weight": jnp.zeros(2), "bias": jnp.zeros(2)}
        >>> params, state = transform.step(grads, transform.init(params), params)
        >>> params["weight"], params["bias"]
        (Array([0.5, 0.5], dtype=float32), Array([1., 1.], dtype=float32))
    """
    known = _options_of(optimizer)
    trees.refuse_statics("grouped", params)
    entries, places = _entries(params)
    chains, members, kept = [], [], []
    for index, (options, chosen) in enumerate(select(groups, entries)):
        _refuse(options, known, index)
        own = {key: value for key, value in options.items() if key in known}
        made = optimizer(**{**hyperparameters, **own})
        _refuse_other(made)
        chains.append(chain(made, per_parameter_steps=per_parameter_steps))
        members.append([places[position] for position in chosen])
        kept.append(_kept(made, Selected(options, chosen), entries))
    # Groups are of the order in which the tree was passed, unless JAX has made it.
    by_jax = is_alphabetical([[entry.name for entry in entries]], surely=True)
    order = None if by_jax else "known"
    return ParamGroups(chains, group_leaves(params, members, kept, order=order))


def _options_of(optimizer: Any) -> list[str]:
    if not callable(optimizer) or isinstance(optimizer, Chain):
        raise TypeError(
            "grouped() takes the function that makes the optimizer, as torchwise.adamw, and its "
            f"hyperparameters as keywords, but got {optimizer!r}"
        )
    return list(inspect.signature(optimizer).parameters)


def _refuse_other(made: Any) -> None:
    if not isinstance(made, Chain) or made.rule is None or not made.rule.group_keys:
        raise TypeError(
            f"grouped(): {made!r} is no optimizer of torchwise, as torchwise.adamw(...)"
        )
    if any(isinstance(part, Block) and part.gathers for part in made.parts):
        raise TypeError(
            f"grouped(): {made!r} would see the gradients of each group by itself; put what needs "
            "all of them in front, as torchwise.chain(clip_grad_norm(1.0), grouped(...))"
        )


def _refuse(options: Any, known: list[str], index: int) -> None:
    if LEAVE_OUT in options:
        raise ValueError(
            f"group {index} has 'leave_out', which is for stateful optimizers: a parameter stays "
            "as it is at a step where its gradient is None"
        )
    refuse_unknown(options, known, index)


def _entries(params: Any) -> tuple[list[Entry], list[int]]:
    """Return the parameters as they were given, and where each stands among the leaves."""
    found = jax.tree.leaves_with_path(params)
    if not trees.has_names(path for path, _ in found):
        raise ValueError(
            "grouped(): patterns need names, which a list of arrays does not have: pass a dict or "
            "a model"
        )
    places = passing_order(params)
    return [Entry(trees.path_name(found[at][0]), found[at][1]) for at in places], places


def _kept(made: Chain, group: Selected, entries: list[Entry]) -> dict[str, Any]:
    """Return the group as torch would have it, in the order of torch's keys."""
    rule = made.rule
    assert rule is not None
    names = [entries[position].name for position in group.members]
    defaults = {key: getattr(rule, key) for key in rule.group_keys}
    return {**group.options, "param_names": names, **defaults, **group.options}
