"""The state of an optimizer as torch's dict."""

import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.alphabetical import is_alphabetical
from torchwise.state_dict.arguments import Names, checked_layout, leaves_of
from torchwise.state_dict.chain_state import entries_of, steps_of
from torchwise.state_dict.choice import equal_entries
from torchwise.state_dict.containers import parts_of
from torchwise.state_dict.groups import group_of, torch_rule
from torchwise.state_dict.layout import Layout, Place, is_ignored
from torchwise.state_dict.matching import Leaves, match_names
from torchwise.state_dict.names import listed_names
from torchwise.state_dict.optimizer_splits import axes_problem, join_state
from torchwise.state_dict.parts import Part
from torchwise.state_dict.splits import part_names
from torchwise.trees import without_variables


def to_state_dict(
    transform: Any,
    state: Any,
    params: Any,
    *,
    names: Names | None = None,
    order: str | None = None,
    prefix: str = "",
    layout: Layout = Layout(),  # noqa: B008 (immutable)
) -> dict[str, Any]:
    """Return the dict that a torch optimizer in this state would return; torch can load it.

    A block in front of the optimizer that torch does not have, as `clip_each_by_norm`, is left out;
    in torch it is a matter of the training loop. So is what stands in front in `optax.chain`,
    provided that it has no memory of gradients. What else torch has no place for is refused.

    A parameter without a gradient has no entry where torch would have none. If the chain does not
    count gradients (SGD without dampening), that is one whose buffer is -0.0 throughout, unless the
    loaded dict had it; torch's next step is the same with it and without. The lr of a schedule is
    the rate of the next gradient, of the parameter that has seen most. Ids are numbers, or names if
    the loaded dict had names in their place, as those of FSDP and of `get_state_dict`. Arrays are
    JAX's, the step is a 0-d float32 array, of SparseAdam an integer; `checkpoint.save` writes
    arrays as tensors.

    Args:
        transform: a chain that ends in one of torch's optimizers, as `sgd(...)`, or consists of the
            same blocks in the same order; what `from_state_dict` returned, which gives its groups
            back with all their keys; or `optax.chain`, `named_chain`, `partition`, `masked`,
            `MultiSteps` or `inject_hyperparams` around such chains, also in each other: each chain
            becomes a group, and parameters that no chain moves, as frozen ones, are in none.
        state: its state; Flax's variables around the arrays, as in `nnx.Optimizer.opt_state`, are
            taken off.
        params: the parameters.
        names: torch's names in the order that the ids are to have: `load_state_dict` of torch goes
            by that order and not by names. Those of parameters that are in no group, and those that
            `layout.ignore` matches, may be among them. Without `names`, the order is that of the
            loaded dict, or else of the tree, group by group, and a warning says so where shapes do
            not tell the states of two parameters apart.
        order: "given" says that the order in which `params` was passed is torch's, within each
            group: see `from_state_dict`.
        prefix: what torch's names begin with, and those of the tree do not, as `"module."`.
        layout: how names and axes differ, as for `from_state_dict`.

    Raises:
        TypeError: if `transform` is none of these.
        ValueError: if torch has no such optimizer, or no place for something around it, or if the
            state or the names are not those of the parameters, or if it cannot be known which id
            is which parameter's.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform, params = torchwise.sgd(lr=0.1, momentum=0.9), {"w": jnp.ones(2)}
        >>> params, state = transform.step(params, transform.init(params), params)
        >>> state_dict = torchwise.to_state_dict(transform, state, params)
        >>> state_dict["state"], state_dict["param_groups"][0]["param_names"]
        ({0: {'momentum_buffer': Array([1., 1.], dtype=float32)}}, ['w'])
    """
    layout = checked_layout("to_state_dict", params, names, order, prefix, layout)
    tree = leaves_of(params, layout)
    places = tree.places
    parts = parts_of(transform, without_variables(state), params)
    if not any(part.options is not None for part in parts):
        _refuse_mixture(parts)
    splits = layout.splits_of(places)
    if splits and names is not None:
        names = part_names(listed_names(names)[0], splits)
    ordered = _ordered(parts, tree, names, order, layout)
    doubt = _doubt(names, order, tree, ordered)
    by_name = all(part.ids is not None for part in parts)
    ids = _ids(parts, ordered, places if by_name else None)
    leaves = list(map(jnp.asarray, jax.tree.leaves(params)))
    whole = {part: split.names[0] for split in splits for part in split.parts}
    groups, written = [], {}
    for part, members in zip(parts, ordered):
        rule, start = torch_rule(part.chain)
        for problem in filter(None, (axes_problem(rule, places[leaf]) for leaf in members)):
            raise ValueError(f"to_state_dict(): {problem}")
        group = group_of(rule, part.options, max(steps_of(part.state, 1), default=0))
        group = _with_names(group, part.options, [places[leaf].name for leaf in members])
        groups.append({**group, "params": [ids[leaf] for leaf in members]})
        ascending = sorted(members)  # the order of the leaves in the trees of a chain's state
        found = entries_of(rule, start, part.state, [leaves[leaf] for leaf in ascending])
        own = {}
        for leaf, (entry, started) in zip(ascending, found):
            if started is None:
                started = leaf in part.saved
            if entry and (started or rule.starts_with_state):
                own[leaf] = _with_torchs_axes(entry, places[leaf])
        written |= own
        if part.order != "known" or [*part.members] != members:
            _check_order(part, {leaf: own.get(leaf, {}) for leaf in members}, tree, doubt, whole)
    # Entries stand in the order of the loaded dict, new ones behind them by id.
    saved = dict.fromkeys(itertools.chain(*(part.saved for part in parts)))
    rank = {leaf: index for index, leaf in enumerate(itertools.chain(*ordered))}
    by_id = sorted(written, key=rank.__getitem__)
    first = [leaf for leaf in saved if leaf in written]
    entries = {ids[leaf]: written[leaf] for leaf in [*first, *by_id]}
    result = {"state": entries, "param_groups": groups}
    if not splits:
        return result
    own = [[places[leaf].name for leaf in members] for members in ordered]
    return join_state(result, [torch_rule(part.chain)[0] for part in parts], own, places, splits)


def _ids(
    parts: Sequence[Part], ordered: Sequence[Sequence[int]], places: Sequence[Place] | None
) -> dict[int, Any]:
    """Return the id of each leaf: its name where the loaded dict had names, else its number."""
    if places is None:
        return {leaf: number for number, leaf in enumerate(itertools.chain(*ordered))}
    known = (pair for part in parts for pair in (part.ids or {}).items())
    return {leaf: places[leaf].name or name for leaf, name in known}


def _doubt(
    names: Names | None, order: str | None, tree: Leaves, ordered: Sequence[Sequence[int]]
) -> str | None:
    """Return what speaks against the order of the ids; "" if nothing speaks for it, either."""
    if tree.sequence:
        return None
    if names is not None:
        groups = [[tree.places[leaf].name for leaf in members] for members in ordered]
        trusted = order is not None or not is_alphabetical(groups)
        return None if trusted else "the names are in alphabetical order, as of a safetensors file"
    if order is None:
        return ""
    passed = [tree.places[leaf].name for leaf in tree.order]
    sorted_by_jax = is_alphabetical([passed], surely=True)
    return "params is in alphabetical order, as JAX leaves dicts behind" if sorted_by_jax else None


def _check_order(
    part: Part,
    entries: Mapping[int, Mapping[str, Any]],
    tree: Leaves,
    doubt: str | None,
    whole: Mapping[str, str],
) -> None:
    """Refuse an order of ids that is not torch's, or warn of one that need not be, if it matters.

    The names in the dict are right in any case, but `load_state_dict` of torch does not read them.

    Args:
        part: a group.
        entries: the state of each of its parameters.
        tree: all leaves.
        doubt: what speaks against their order; None if the caller has said that it is right.
        whole: of leaves that are parts of an array of torch, its name: all parts have its one id.
    """
    if doubt is None:
        return
    lost = part.order == "lost"
    first: dict[Any, int] = {}
    for leaf, entry in entries.items():
        other = first.setdefault(None if lost else tree.places[leaf].torch_shape, leaf)
        pair = [whole.get(name := tree.places[one].name, name) for one in (other, leaf)]
        if pair[0] != pair[1] and not equal_entries(entry, entries[other]):
            break
    else:
        return
    exchanged = f"{pair[0]!r} from {pair[1]!r}"
    remedy = (
        "Pass names=[name for name, _ in model.named_parameters()], group by group, with "
        'order="given" if that is alphabetical; or order="given" alone, if params was passed in '
        "that order"
    )
    if doubt:
        raise ValueError(f"to_state_dict(): {doubt}, and shapes do not tell {exchanged}. {remedy}")
    if lost:
        raise ValueError(
            "to_state_dict(): the dict that was loaded had no names and no state to tell which of "
            f"its ids are which parameters, and now there is state to tell {exchanged}. {remedy}"
        )
    warnings.warn(
        "to_state_dict(): the ids count the parameters in the order of the tree, in which JAX "
        "sorts dicts. That need not be the order in torch, whose load_state_dict goes by it and "
        f"not by names, and shapes do not tell {exchanged}. {remedy}",
        stacklevel=3,
    )


def _refuse_mixture(parts: Sequence[Part]) -> None:
    names = list(dict.fromkeys(torch_rule(part.chain)[0].name for part in parts))
    if len(names) > 1:
        raise ValueError(
            f"to_state_dict(): the groups are of {' and '.join(names)}, but an optimizer of torch "
            "is the same for all its groups"
        )


def _ordered(
    parts: Sequence[Part], tree: Leaves, names: Names | None, order: str | None, layout: Layout
) -> list[list[int]]:
    """Return the members of each group in the order that their ids are to have."""
    if names is None:
        passed = {leaf: rank for rank, leaf in enumerate(tree.order)}
        return [
            [*part.members]
            if order is None or part.order == "known"
            else sorted(part.members, key=passed.__getitem__)
            for part in parts
        ]
    here = sorted(itertools.chain(*(part.members for part in parts)))
    own = {tree.places[leaf].name for leaf in here}
    elsewhere = {place.name for place in tree.places} - own
    wanted, _ = listed_names(
        names, lambda name: name in elsewhere or (name not in own and is_ignored(name, layout))
    )
    found, problems = match_names(wanted, [tree.places[leaf].name for leaf in here])
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(f"to_state_dict(): the names are not those of the tree:\n  {listed}")
    rank = {here[index]: position for position, index in enumerate(found)}
    return [sorted(part.members, key=rank.__getitem__) for part in parts]


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
