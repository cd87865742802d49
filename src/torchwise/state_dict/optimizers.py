"""The state of an optimizer: from torch's dict, and to it."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.param_groups import (
    ParamGroups,
    chain_states,
    group_leaves,
    with_chain_states,
)
from torchwise.rule import Rule
from torchwise.state_dict.chain_state import chain_state, entries_of, rule_chain, steps_of
from torchwise.state_dict.containers import Part, bare, parts_of
from torchwise.state_dict.entry import Target, load_state
from torchwise.state_dict.form import malformed, malformed_group
from torchwise.state_dict.groups import completed, group_of, rule_of, rule_type, torch_rule
from torchwise.state_dict.layout import Layout, Place
from torchwise.state_dict.matching import match_ids, match_names
from torchwise.states import ChainState
from torchwise.structure import difference, named
from torchwise.trees import refuse_statics


def from_state_dict(
    state_dict: Mapping[str, Any],
    params: Any,
    *,
    names: Sequence[str] | None = None,
    layout: Layout = Layout(),  # noqa: B008 (immutable)
    optimizer: str | None = None,
    per_parameter_steps: bool = False,
) -> tuple[ParamGroups, Any]:
    """Return the transform and the state that the dict of a torch optimizer means for a tree.

    Parameters are matched by name where both sides have names, else by position; all shapes are
    checked. A dict has names if its optimizer was made from `named_parameters()`; a tree has its
    paths. Shapes cannot tell that a square matrix is to be transposed: `layout` says so.

    Arrays are copied into JAX's memory, floating state with the parameter's type if it has another,
    as torch does. A parameter without state, or with a `momentum_buffer` of None, has had no
    gradient yet. What the groups hold besides hyperparameters (`initial_lr`, `foreach`, names) is
    kept by the transform, so that `to_state_dict` gives it back.

    Args:
        state_dict: what `state_dict()` of a torch optimizer returned or a checkpoint holds, with
            arrays of numpy, JAX or torch.
        params: a tree of arrays.
        names: torch's names in the order of the ids, for a dict without them: those of
            `model.named_parameters()`, or the keys of a model's state dict without its buffers.
        layout: how names and axes differ.
        optimizer: torch's name of the optimizer, as "SGD", where the keys of the dict do not tell.
        per_parameter_steps: count the gradients of every parameter by itself, as for `chain`; it
            is so in any case where the saved counts differ.

    Returns:
        A transform with one chain per group (its `chains`), and its state, which `init` would
        return had it seen all the gradients that torch has.

    Raises:
        ValueError: listing all that is missing, unexpected, of another shape or invalid.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> group = {"lr": 0.1, "momentum": 0.9, "dampening": 0, "weight_decay": 0, "params": [0]}
        >>> entry = {"momentum_buffer": jnp.ones(2)}
        >>> state_dict = {"state": {0: entry}, "param_groups": [group]}
        >>> transform, state = torchwise.from_state_dict(state_dict, {"w": jnp.zeros(2)})
        >>> state.states[0].momentum_buffer["w"]
        Array([1., 1.], dtype=float32)
    """
    saved, groups = _parts(state_dict)
    _refuse_arguments("from_state_dict", params, names, layout)
    places = layout.places(params)
    members, problems = match_ids(groups, places, names)
    rules, options, invalid = _rules(saved, groups, optimizer)
    _refuse(problems + invalid)
    leaf_of = {
        identity: leaf
        for group, leaves in zip(groups, members)
        for identity, leaf in zip(group["params"], leaves)
    }
    targets = {
        identity: _target(identity, places[leaf_of[identity]], rule)
        for group, rule in zip(groups, rules)
        for identity in group["params"]
    }
    loaded, problems = load_state(saved, targets)
    _refuse(problems)
    held = {leaf_of[identity]: entry for identity, entry in loaded.items()}
    chains = [
        rule_chain(rule, [held.get(leaf) for leaf in leaves], per_parameter_steps)
        for rule, leaves in zip(rules, members)
    ]
    grouping = group_leaves(params, members, options, [leaf for leaf in held if held[leaf]])
    transform = ParamGroups(chains, grouping)
    return transform, _state(transform, params, held)


def to_state_dict(
    transform: Any,
    state: Any,
    params: Any,
    *,
    names: Sequence[str] | None = None,
    layout: Layout = Layout(),  # noqa: B008 (immutable)
) -> dict[str, Any]:
    """Return the dict that a torch optimizer in this state would return; torch can load it.

    A block in front of the optimizer that torch does not have, as `clip_each_by_norm`, is left out;
    in torch it is a matter of the training loop. So is what stands in front in `optax.chain`,
    provided that it has no memory of gradients. What else torch has no place for is refused.

    A parameter without a gradient has no entry where torch would have none. If the chain does not
    count gradients (SGD without dampening), that is one whose buffer is -0.0 throughout, unless the
    loaded dict had it; torch's next step is the same with it and without. The lr of a schedule is
    the rate of the next gradient, of the parameter that has seen most. Arrays are JAX's, the step
    is a 0-d float32 array, of SparseAdam an integer; `checkpoint.save` writes arrays as tensors.

    Args:
        transform: a chain that ends in one of torch's optimizers, as `sgd(...)`, or consists of the
            same blocks in the same order; what `from_state_dict` returned, which gives its groups
            back with all their keys; or `optax.chain`, `named_chain`, `partition`, `masked`,
            `MultiSteps` or `inject_hyperparams` around such chains, also in each other: each chain
            becomes a group, and parameters that no chain moves, as frozen ones, are in none.
        state: its state; Flax's variables around the arrays, as in `nnx.Optimizer.opt_state`, are
            taken off.
        params: the parameters.
        names: torch's names in the order that the ids are to have; without it, the order is that of
            the loaded dict or else of the tree, group by group. Names of parameters that are in no
            group may be among them.
        layout: how names and axes differ, as for `from_state_dict`.

    Raises:
        TypeError: if `transform` is none of these.
        ValueError: if torch has no such optimizer, or no place for something around it, or if the
            state or the names are not those of the parameters.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform, params = torchwise.sgd(lr=0.1, momentum=0.9), {"w": jnp.ones(2)}
        >>> params, state = transform.step(params, transform.init(params), params)
        >>> state_dict = torchwise.to_state_dict(transform, state, params)
        >>> state_dict["state"], state_dict["param_groups"][0]["param_names"]
        ({0: {'momentum_buffer': Array([1., 1.], dtype=float32)}}, ['w'])
    """
    _refuse_arguments("to_state_dict", params, names, layout)
    places = layout.places(params)
    state = bare(state)
    if isinstance(transform, ParamGroups):
        parts = _own_parts(transform, state, params)
        kept, saved = transform.grouping.options, transform.grouping.saved
    else:
        parts = parts_of(transform, state, params)
        kept, saved = (None,) * len(parts), ()
        _refuse_mixture(parts)
    order = _ordered([part.members for part in parts], places, names)
    ids = {leaf: identity for identity, leaf in enumerate(itertools.chain(*order))}
    leaves = list(map(jnp.asarray, jax.tree.leaves(params)))
    groups, written = [], {}
    for part, members, options in zip(parts, order, kept):
        rule, start = torch_rule(part.chain)
        group = group_of(rule, options, max(steps_of(part.state, 1), default=0))
        group = _with_names(group, options, [places[leaf].name for leaf in members])
        groups.append({**group, "params": [ids[leaf] for leaf in members]})
        ascending = sorted(members)  # the order of the leaves in the trees of a chain's state
        found = entries_of(rule, start, part.state, [leaves[leaf] for leaf in ascending])
        for leaf, (entry, started) in zip(ascending, found):
            if started is None:
                started = leaf in saved
            if entry and (started or rule.starts_with_state):
                written[leaf] = _with_torchs_axes(entry, places[leaf])
    # Entries stand in the order of the loaded dict, new ones behind them by id.
    by_id = sorted(written, key=ids.__getitem__)
    first = [leaf for leaf in saved if leaf in written]
    entries = {ids[leaf]: written[leaf] for leaf in [*first, *by_id]}
    return {"state": entries, "param_groups": groups}


def _refuse_mixture(parts: Sequence[Part]) -> None:
    names = list(dict.fromkeys(torch_rule(part.chain)[0].name for part in parts))
    if len(names) > 1:
        raise ValueError(
            f"to_state_dict(): the groups are of {' and '.join(names)}, but an optimizer of torch "
            "is the same for all its groups"
        )


def _own_parts(transform: ParamGroups, state: Any, params: Any) -> list[Part]:
    problem = difference(state, bare(jax.eval_shape(transform.init, params)))
    if problem:
        raise ValueError(
            f"to_state_dict(): the state is not that of these parameters: {problem}; pass what "
            "init(), step() or update() of this transform returned for them"
        )
    members = transform.grouping.members
    return list(map(Part, transform.chains, chain_states(state), members))


def _parts(state_dict: Any) -> tuple[Mapping[Any, Any], Sequence[Mapping[str, Any]]]:
    problem = malformed(state_dict)
    groups = [] if problem else state_dict["param_groups"]
    found = [malformed_group(index, group) for index, group in enumerate(groups)]
    problem = next(filter(None, [problem, *found]), None)
    for index, group in enumerate(groups):
        names = group.get("param_names", []) if problem is None else []
        if not isinstance(names, list | tuple):
            problem = f"group {index} has a {type(names).__name__} under 'param_names', no list"
    if problem:
        raise ValueError(
            "from_state_dict() takes what state_dict() of an optimizer returned, here or in torch, "
            f"but {problem}"
        )
    return state_dict["state"], state_dict["param_groups"]


def _refuse_arguments(call: str, params: Any, names: Sequence[str] | None, layout: Layout) -> None:
    if params is None:
        raise ValueError(f"{call}(): params is None: pass the tree of parameters")
    if isinstance(params, ChainState):
        raise TypeError(f"{call}(): params is a state: pass the tree of parameters")
    refuse_statics(call, params)
    if isinstance(names, str) or not isinstance(names, Iterable | None):
        raise TypeError(
            f"{call}(): names is {named(names)}: pass a list of torch's names, as that of "
            "model.named_parameters()"
        )
    if not isinstance(layout, Layout):
        raise TypeError(f"{call}(): layout is {named(layout)}: pass a torchwise.Layout")


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(f"from_state_dict(): the state dict does not fit:\n  {listed}")


def _rules(
    saved: Mapping[Any, Any], groups: Sequence[Mapping[str, Any]], optimizer: str | None
) -> tuple[list[Rule], list[dict[str, Any]], list[str]]:
    """Return the rule and the options of each group, and what is wrong with the groups."""
    rules, options, problems = [], [], []
    for index, group in enumerate(groups):
        try:
            ids = group["params"]
            state_keys = {key for identity in ids for key in saved.get(identity, ())}
            found = rule_type(group, state_keys, optimizer)
            options.append(completed(found, group))
            rules.append(rule_of(found, options[-1]))
        except (TypeError, ValueError) as error:
            problems.append(f"group {index}: {error}")
    return rules, options, problems


def _target(identity: Any, place: Place, rule: Rule) -> Target:
    return Target(f"parameter {identity} ({place.name or place.path})", place, rule)


def _state(transform: ParamGroups, params: Any, held: Mapping[int, Mapping[str, Any]]) -> Any:
    leaves = list(map(jnp.asarray, jax.tree.leaves(params)))
    template = jax.eval_shape(transform.init, params)
    states = []
    for chain, inner, members in zip(
        transform.chains, chain_states(template), transform.grouping.members
    ):
        ascending = sorted(members)
        entries = [held.get(leaf) for leaf in ascending]
        states.append(chain_state(chain, inner, entries, [leaves[leaf] for leaf in ascending]))
    return with_chain_states(template, states)


def _ordered(
    members: Sequence[Sequence[int]], places: Sequence[Place], names: Sequence[str] | None
) -> list[list[int]]:
    """Return the members of each group in the order of the names, if there are any."""
    if names is None:
        return [list(group) for group in members]
    here = sorted(itertools.chain(*members))
    elsewhere = {place.name for place in places} - {places[leaf].name for leaf in here}
    wanted = [name for name in names if name not in elsewhere]
    order, problems = match_names(wanted, [places[leaf].name for leaf in here])
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(f"to_state_dict(): the names are not those of the tree:\n  {listed}")
    rank = {here[index]: position for position, index in enumerate(order)}
    return [sorted(group, key=rank.__getitem__) for group in members]


def _with_names(
    group: dict[str, Any], options: Mapping[str, Any] | None, names: Sequence[str]
) -> dict[str, Any]:
    """Return the group with names if it had some, or if it is new and the tree has some."""
    if not all(names) or (options is not None and "param_names" not in options):
        return group
    if options is None:  # torch puts them before the defaults
        return {"param_names": [*names], **group}
    return {**group, "param_names": [*names]}


def _with_torchs_axes(entry: Mapping[str, Any], place: Place) -> dict[str, Any]:
    return {
        key: place.to_torch(value) if np.shape(value) == place.shape else value
        for key, value in entry.items()
    }
