"""The arrays of a model whose modules are nodes of its tree, as in Flax NNX and Equinox."""

import itertools
from typing import Any

import jax

from torchwise.layouts.layer import Array
from torchwise.trees import path_name


def arrays_of(model: Any) -> list[Array]:
    """Return the arrays of a model whose modules are nodes of its tree."""
    found = []
    for path, leaf in jax.tree.leaves_with_path(model):
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            continue
        keys = [path_name((key,)) for key in path]
        owners = owners_of(model, path)
        if path_name(path) != ".".join(keys):  # without the key inside of an nnx variable
            keys, owners = keys[:-1], owners[:-1]
        found.append(Array(path_name(path), tuple(keys), owners, leaf.shape))
    return found


def owners_of(model: Any, path: Any) -> list[Any]:
    """Return, for each key of a path, the node that it is looked up in."""
    return list(itertools.accumulate(path[:-1], _child, initial=model)) if path else []


def _child(node: Any, key: Any) -> Any:
    if isinstance(key, jax.tree_util.GetAttrKey):
        return getattr(node, key.name)
    if isinstance(key, jax.tree_util.FlattenedIndexKey):
        return jax.tree.leaves(node)[key.key]
    return node[key.idx if isinstance(key, jax.tree_util.SequenceKey) else key.key]
