"""Parameter groups are checked and completed before they join, in torch's order and words."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from torchwise.groups.patterns import matched, patterns_of, refuse_unmatched
from torchwise.groups.selection import (
    LEAVE_OUT,
    MATCH,
    Entry,
    Groups,
    refuse_unknown,
    select,
)
from torchwise.optim.collection import Collection, collect, listed
from torchwise.optim.parameter import Parameter
from torchwise.optim.refusals import refuse_statistics, refuse_tensors
from torchwise.trees import label


def collected(params: Any) -> Collection:
    """Return parameters in their tree.

    Raises:
        TypeError, ValueError: for what cannot be optimized.
    """
    if isinstance(params, set):
        raise TypeError(
            "optimizer parameters need to be organized in ordered collections, but the ordering of "
            "tensors in sets will change between runs. Please use a list instead."
        )
    params = listed([params] if isinstance(params, Parameter) else params)
    refuse_tensors(params)
    refuse_statistics(params)
    collection = collect(params)
    if collection.names is None:
        _refuse_shared(params)
    if isinstance(params, list | tuple):
        _refuse_other_leaves(collection)
    return collection


def completed(
    param_group: Mapping[str, Any],
    collection: Collection,
    defaults: dict[str, Any],
    others: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return a group with its parameters and all keys.

    Args:
        param_group: its options; not changed.
        collection: its parameters.
        defaults: for keys that it lacks.
        others: the groups that are there already.

    Raises:
        ValueError: as torch does.
    """
    group = {**param_group, "params": collection.parameters}
    if collection.names is not None:
        group["param_names"] = collection.names
    for name, default in defaults.items():
        group.setdefault(name, default)
    _refuse_duplicates(group, others)
    return group


def named_groups(
    collection: Collection, groups: Groups, known: Sequence[str]
) -> list[tuple[dict[str, Any], Collection]]:
    """Return the options and the parameters of each group that was asked for by names.

    The parameters are in the order in which they were passed, as those of torch are in the order of
    the model. Those that are left out are in no group.

    Args:
        collection: all parameters.
        groups: see `torchwise.groups.selection.select`.
        known: the options that the optimizer has.

    Raises:
        TypeError, ValueError: for groups that do not fit the names.
    """
    parameters = collection.parameters
    arrays = [parameter.data for parameter in parameters]
    entries = list(map(Entry, names_of(parameters), arrays))
    found = []
    for index, (options, members) in enumerate(select(groups, entries)):
        refuse_unknown(options, known, index)
        if options.pop(LEAVE_OUT, False) is False:
            found.append((options, _part(parameters, members)))
    return found


def left_out(
    group: Mapping[str, Any],
    parameters: Sequence[Parameter],
    others: Sequence[Mapping[str, Any]],
    known: Sequence[str],
) -> tuple[dict[str, Any], Collection]:
    """Return the options and the parameters of a later group, which no group has so far.

    Args:
        group: patterns under `match`, and options.
        parameters: all of the tree.
        others: the groups that are there already.
        known: the options that the optimizer has.

    Raises:
        TypeError, ValueError: for patterns that match nothing, or parameters of other groups.
    """
    if "params" in group:
        raise ValueError("a group has either 'params' or 'match', not both")
    where = f"'match' of group {len(others)}"
    patterns, names = patterns_of(group[MATCH], where), names_of(parameters)
    refuse_unmatched(patterns, names, where)
    owner = {one: index for index, other in enumerate(others) for one in other["params"]}
    members = [index for index, name in enumerate(names) if matched(name, patterns) is not None]
    for index in members:
        if (taken := owner.get(parameters[index])) is not None:
            raise ValueError(
                f"{where}: {names[index]!r} is in group {taken} already: change the options there, "
                f"as optimizer.param_groups[{taken}]['lr'] = ..., or narrow the pattern"
            )
    options = {key: value for key, value in group.items() if key != MATCH}
    refuse_unknown(options, known, len(others))
    return options, _part(parameters, members)


def names_of(parameters: Sequence[Parameter]) -> list[str]:
    """Return the names of parameters.

    Raises:
        ValueError: if they have none.
    """
    names = [one.name for one in parameters if one.name is not None]
    if len(names) < len(parameters) or not names:
        raise ValueError(
            "patterns need names, which a list of arrays does not have: pass a dict, a model, or "
            "(name, array) pairs"
        )
    return names


def _part(parameters: Sequence[Parameter], members: Sequence[int]) -> Collection:
    chosen = [parameters[index] for index in members]
    return Collection(None, chosen, names_of(chosen) if chosen else [])


def _refuse_other_leaves(collection: Collection) -> None:
    """An iterable of parameters, unlike a tree, holds nothing else."""
    if not isinstance(collection.tree, list | tuple):
        return
    for element in collection.tree:
        flat = jax.tree_util.all_leaves([element])
        if flat and not isinstance(element, Parameter):
            raise TypeError(
                "optimizer can only optimize Tensors, but one of the params is "
                f"{type(element).__name__}"
            )


def _refuse_shared(params: Any) -> None:
    """One array twice is one tensor in torch's lists; here each place would go its own way.

    Names say that parameters are two, though they begin with the same values.
    """
    seen: dict[int, str] = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        if isinstance(leaf, jax.Array | np.ndarray):
            if id(leaf) in seen:
                raise ValueError(
                    f"{seen[id(leaf)]} and {label(path)} are one array: use it twice in the loss "
                    "function if they are to stay equal, or pass a copy, as jnp.copy(array)"
                )
            seen[id(leaf)] = label(path)


def _refuse_duplicates(group: dict[str, Any], others: list[dict[str, Any]]) -> None:
    parameters = group["params"]
    if len(set(parameters)) < len(parameters):
        raise ValueError("optimizer contains a parameter group with duplicate parameters")
    for other in others:
        if ("param_names" in group) != ("param_names" in other):
            having = "with names" if "param_names" in group else "without names"
            raise ValueError(
                "all optimizer param groups should be with/without names. "
                f"cannot add param group {having} to the optimizer"
            )
    # A parameter is the same holder, or the very same array in another holder.
    taken = {
        id(kept) for other in others for one in other["params"] for kept in (one, one.own_array)
    }
    if any(id(kept) in taken for one in parameters for kept in (one, one.own_array)):
        raise ValueError("some parameters appear in more than one parameter group")
