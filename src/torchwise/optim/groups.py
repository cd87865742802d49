"""Parameter groups are checked and completed before they join, in torch's order and words."""

from typing import Any

import jax
import numpy as np

from torchwise.optim.collection import Collection, collect, listed
from torchwise.optim.parameter import Parameter
from torchwise.optim.refusals import refuse_statistics, refuse_tensors
from torchwise.trees import label


def complete_group(
    param_group: Any, defaults: dict[str, Any], others: list[dict[str, Any]]
) -> tuple[Collection, dict[str, Any]]:
    """Return a new group's parameters in their tree, and the group with all keys.

    Args:
        param_group: what the user passed; not changed.
        defaults: for keys that it lacks.
        others: the groups that are there already.

    Raises:
        TypeError, ValueError: as torch does.
    """
    if not isinstance(param_group, dict):
        raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
    group = dict(param_group)
    params = group["params"]
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
    group["params"] = collection.parameters
    if collection.names is not None:
        group["param_names"] = collection.names
    for name, default in defaults.items():
        group.setdefault(name, default)
    _refuse_duplicates(group, others)
    return collection, group


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
