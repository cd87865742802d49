"""What may be passed as `params`, turned into Parameters and the structure that held them."""

from collections.abc import ItemsView, Iterator, ValuesView
from typing import Any, NamedTuple

import jax
import numpy as np

from torchwise.optim.parameter import Parameter
from torchwise.passing_order import passing_order
from torchwise.trees import has_names, is_optimizable, path_name


class Collection(NamedTuple):
    """Parameters, and the tree that they came in.

    Attributes:
        tree: what was passed, with a `Parameter` in the place of each array that is optimized.
        parameters: those parameters, in the order of passing: a dict's is that of insertion.
        names: one name per parameter, or None.
    """

    tree: Any
    parameters: list[Parameter]
    names: list[str] | None


def joined(whole: Collection, more: Collection) -> Collection:
    """Return a collection that has the parameters of a tree and later ones in its dicts.

    Raises:
        ValueError: if the trees are no dicts, or both have a leaf at the same place.
    """
    known = set(whole.parameters)
    fresh = [one for one in more.parameters if one not in known]
    if not fresh:
        return whole
    given = [*whole.parameters, *fresh]
    return Collection(_joined(whole.tree, more.tree, ()), given, None)


def _joined(tree: Any, more: Any, path: tuple[str, ...]) -> Any:
    """Return a dict with the leaves of two dicts, also of dicts in them.

    Raises:
        ValueError: if one of them is no dict, or both have a leaf at the same place.
    """
    if not (type(tree) is dict and type(more) is dict):
        raise ValueError(
            "the parameters are one tree, which later ones can join only where both are dicts: add "
            "those that are in the tree already by {'match': pattern}"
        )
    both = {**tree, **more}
    for key in filter(tree.__contains__, more):
        if not (type(tree[key]) is dict and type(more[key]) is dict):
            name = ".".join((*path, str(key)))
            raise ValueError(f"there is a parameter {name!r} already")
        both[key] = _joined(tree[key], more[key], (*path, str(key)))
    return both


def is_array(leaf: Any) -> bool:
    """Whether a leaf is a float or complex array."""
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        return False
    return is_optimizable(leaf.dtype)


def is_groups(params: Any) -> bool:
    """Whether `params` is a list of group dicts; as in torch, the first element decides."""
    return isinstance(params, list) and bool(params) and _is_group(params[0])


def listed(params: Any) -> Any:
    """Turn iterators, sets and views of dicts into lists; leave trees as they are."""
    is_leaf = jax.tree_util.all_leaves([params])
    return (
        list(params)
        if isinstance(params, Iterator | ItemsView | ValuesView | set) and is_leaf
        else params
    )


def collect(params: Any) -> Collection:
    """Wrap every array of a tree, or of an iterable of arrays or of `(name, array)`.

    Raises:
        ValueError: if some of an iterable's arrays have names and some have not.
    """
    if isinstance(params, list | tuple) and any(map(_is_named, params)):
        if not all(map(_is_named, params)):
            raise ValueError(
                "all optimizer params should be with/without names. Some param names are missing"
            )
        tree = {element[0]: _wrap(element[1], element[0]) for element in params}
        if len(tree) != len(params):
            raise ValueError("two parameters have the same name")
        return Collection(tree, list(tree.values()), list(tree))
    entries, treedef = jax.tree.flatten_with_path(params)
    by_path = has_names(path for path, _ in entries)
    leaves = [_wrap(leaf, path_name(path) if by_path else None) for path, leaf in entries]
    ordered = (leaves[index] for index in passing_order(params))
    parameters = [leaf for leaf in ordered if isinstance(leaf, Parameter)]
    names = [parameter.name for parameter in parameters if parameter.name is not None]
    if names and len(names) < len(parameters):
        raise ValueError(
            "all optimizer params should be with/without names. Some param names are missing"
        )
    return Collection(treedef.unflatten(leaves), parameters, names or None)


def _wrap(leaf: Any, name: str | None) -> Any:
    """Give an array a holder; leave alone what is no array."""
    if isinstance(leaf, Parameter):
        if leaf.name is None:
            leaf.name = name
        return leaf
    return Parameter(leaf, name) if is_array(leaf) else leaf


def _is_group(element: Any) -> bool:
    return isinstance(element, dict) and "params" in element


def _is_named(element: Any) -> bool:
    if not (isinstance(element, tuple) and len(element) >= 2):
        return False
    name, value = element[:2]
    return isinstance(name, str) and (isinstance(value, Parameter) or is_array(value))
