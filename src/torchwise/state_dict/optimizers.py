"""The state of an optimizer from torch's dict."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from torchwise.param_groups import (
    ParamGroups,
    chain_states,
    group_leaves,
    with_chain_states,
)
from torchwise.rule import Rule
from torchwise.state_dict.arguments import Names, checked_layout, leaves_of, without_frozen
from torchwise.state_dict.chain_state import chain_state, rule_chain
from torchwise.state_dict.choice import Placed, exchangeable, first_that_differ
from torchwise.state_dict.entry import Target, load_state
from torchwise.state_dict.flattened import unflattened
from torchwise.state_dict.form import malformed, malformed_group
from torchwise.state_dict.groups import completed, rule_of, rule_type
from torchwise.state_dict.layout import Layout, Place, is_ignored
from torchwise.state_dict.matching import match_ids
from torchwise.state_dict.names import has_named_ids, listed_names
from torchwise.state_dict.optimizer_splits import axes_problem, problem_of, split_state


def from_state_dict(
    state_dict: Mapping[str, Any],
    params: Any,
    *,
    names: Names | None = None,
    order: str | None = None,
    frozen: Sequence[str] = (),
    prefix: str = "",
    layout: Layout = Layout(),  # noqa: B008 (immutable)
    optimizer: str | None = None,
    per_parameter_steps: bool = False,
) -> tuple[ParamGroups, Any]:
    """Return the transform and the state that the dict of a torch optimizer means for a tree.

    Parameters are matched by name: the names of a tree are its paths, and those of a dict its
    `param_names`, which it has if its optimizer was made from `named_parameters()`, or its ids
    where these are strings, as FSDP and `torch.distributed.checkpoint` write them. For another dict
    give `names`. Without names only the place could tell, and JAX sorts the keys of dicts: then the
    call refuses if state or settings could be another parameter's and all shapes would fit. A mere
    list of arrays is taken by place, as in torch.

    All shapes are checked. They cannot tell that a square matrix is to be transposed: `layout` says
    so.

    Arrays are copied into JAX's memory, floating state with the parameter's type if it has another,
    as torch does. A parameter without state, or with a `momentum_buffer` of None, has had no
    gradient yet. What the groups hold besides hyperparameters (`initial_lr`, `foreach`, names) is
    kept by the transform, so that `to_state_dict` gives it back.

    Args:
        state_dict: what `state_dict()` of a torch optimizer returned or a checkpoint holds, with
            arrays of numpy, JAX or torch.
        params: a tree of arrays.
        names: torch's names in the order of the ids, that is group by group, for a dict without
            them; in one list, or in a list for each group. That is the order of
            `model.named_parameters()` if the optimizer was made from `model.parameters()`, and
            `parameter_names` reads it from the model's state dict in a `.pt` file. A safetensors
            file is in alphabetical order, which is none: such names are refused where it matters.
            Names that `layout.ignore` or `frozen` match are left out.
        order: "given" says that the order of `names`, or without names the order in which `params`
            was passed, is the optimizer's, through all its groups. Dicts have the order in which
            their keys were inserted, at every depth; what comes out of `jax.jit` or `jax.tree.map`
            has lost it, and where that shows, the call refuses.
        frozen: patterns, as `"embed.*"`, of the parameters that the optimizer of torch does not
            have. They are in no group, have no state, and take no gradients but None.
        prefix: what torch's names begin with, and those of the tree do not, as `"module."`.
        layout: how names and axes differ.
        optimizer: torch's name of the optimizer, as "SGD", where the keys of the dict do not tell.
        per_parameter_steps: count the gradients of every parameter by itself, as for `chain`; it
            is so in any case where the saved counts differ.

    Returns:
        A transform with one chain per group (its `chains`), and its state, which `init` would
        return had it seen all the gradients that torch has.

    Raises:
        ValueError: listing all that is missing, unexpected, of another shape or invalid; or if it
            cannot be known which parameter is which.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> group = {"lr": 0.1, "momentum": 0.9, "dampening": 0, "weight_decay": 0}
        >>> entries = {0: {"momentum_buffer": jnp.ones(2)}, 1: {"momentum_buffer": jnp.zeros(2)}}
        >>> state_dict = {"state": entries, "param_groups": [{**group, "params": [0, 1]}]}
        >>> params = {"w": jnp.zeros(2), "b": jnp.zeros(2)}
        >>> transform, state = torchwise.from_state_dict(state_dict, params, names=["w", "b"])
        >>> state.states[0].momentum_buffer["w"]
        Array([1., 1.], dtype=float32)
    """
    saved, groups = _parts(unflattened(state_dict))
    layout = checked_layout("from_state_dict", params, names, order, prefix, layout)
    params, idle = without_frozen(params, layout, frozen)
    leaves = leaves_of(params, layout)

    def has_no_place(name: str) -> bool:
        return name in idle or is_ignored(name, layout)

    splits, divided = layout.splits_of(leaves.places), set()
    if splits:
        listed = None if names is None else listed_names(names, has_no_place)[0]
        saved, groups, names, divided = split_state(saved, groups, listed, splits)
    ways, doubt, problems = match_ids(groups, leaves, names, order, has_no_place)
    rules, options, invalid = _rules(saved, groups, optimizer)
    _refuse(problems + invalid)
    _refuse(_whole_array_problems(rules, groups, divided))
    tried = [_tried(saved, groups, rules, leaves.places, members) for members in ways]
    members, placed, loaded, problems = min(tried, key=lambda way: len(way.problems))
    _refuse(problems, " by place" if doubt else "")
    _refuse([problem for _, one in placed if (problem := axes_problem(one.rule, one.place))])
    leaf_of = {one.identity: leaf for leaf, one in placed}
    choice = exchangeable([one for _, one in placed]) if doubt else []
    for exchanged in choice:
        _refuse_choice(str(doubt), exchanged, len(groups))
    held = {leaf_of[identity]: entry for identity, entry in loaded.items()}
    chains = [
        rule_chain(rule, [held.get(leaf) for leaf in own], per_parameter_steps)
        for rule, own in zip(rules, members)
    ]
    grouping = group_leaves(
        params,
        members,
        options,
        [leaf for leaf in held if held[leaf]],
        ids={leaf: one.identity for leaf, one in placed} if has_named_ids(groups) else None,
        order="lost" if choice else "known",
    )
    transform = ParamGroups(chains, grouping)
    return transform, _state(transform, params, held)


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


def _refuse(problems: Sequence[str], how: str = "") -> None:
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(f"from_state_dict(): the state dict does not fit{how}:\n  {listed}")


def _whole_array_problems(
    rules: Sequence[Rule], groups: Sequence[Mapping[str, Any]], divided: set[Any]
) -> list[str]:
    """Return why some of the ids that are parts of an array cannot be."""
    problems = [problem_of(rule) for rule, own in zip(rules, groups) if divided & {*own["params"]}]
    return [problem for problem in problems if problem]


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


class _Way(NamedTuple):
    """A way to place the ids of a dict: which leaves each group has, and what that makes of it."""

    members: list[list[int]]
    placed: list[tuple[int, Placed]]
    loaded: dict[Any, dict[str, Any]]
    problems: list[str]


def _tried(
    saved: Mapping[Any, Any],
    groups: Sequence[Mapping[str, Any]],
    rules: Sequence[Rule],
    places: Sequence[Place],
    members: list[list[int]],
) -> _Way:
    placed = [
        (leaf, Placed(identity, number, saved.get(identity, {}), rule, places[leaf]))
        for number, (group, own, rule) in enumerate(zip(groups, members, rules))
        for identity, leaf in zip(group["params"], own)
    ]
    targets = {one.identity: Target(_label(one), one.place, one.rule) for _, one in placed}
    return _Way(members, placed, *load_state(saved, targets))


def _label(one: Placed) -> str:
    return f"parameter {one.identity} ({one.place.name or one.place.path})"


def _refuse_choice(doubt: str, exchanged: Sequence[Placed], groups: int) -> None:
    """Raise a ValueError if it matters which of these parameters is which."""
    pair = first_that_differ(exchanged)
    if pair:
        names = (
            "names=[name for name, _ in model.named_parameters()] if the optimizer was made from "
            "model.parameters()"
            if groups == 1
            else f"names= with a list of torch's names for each of its {groups} groups"
        )
        raise ValueError(
            f"from_state_dict(): {doubt}, and shapes do not tell {_label(pair[0])} from "
            f"{_label(pair[1])}: {len(exchanged)} parameters could be exchanged. Pass {names}, "
            'with order="given" if that is alphabetical; or order="given" alone, if params was '
            "passed in the order of the ids"
        )


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
