"""The order in which a tree was passed: JAX sorts the keys of dicts, their owner did not."""

from collections.abc import Mapping
from typing import Any

import jax


def passing_order(tree: Any) -> list[int]:
    """Return where each leaf stands among `jax.tree.leaves(tree)`, in the order of passing.

    That is the order of insertion for dicts and other mappings, at every depth, and JAX's order
    for all other containers. What comes out of `jax.jit` or `jax.tree.map` has sorted dicts.

    Examples:
        >>> from torchwise.passing_order import passing_order
        >>> passing_order({"2": 0.0, "10": {"weight": 0.0, "bias": 0.0}})
        [2, 1, 0]
    """
    nodes: dict[Any, Any] = {(): tree}
    ranks: dict[Any, dict[Any, int]] = {}
    keys = []
    for path, _ in jax.tree.leaves_with_path(tree):
        for depth, key in enumerate(path):
            above, node = path[:depth], nodes[path[:depth]]
            if above not in ranks:
                ranks[above] = _insertion(node)
            ranks[above].setdefault(_name(key), len(ranks[above]))
            if depth + 1 < len(path) and path[: depth + 1] not in nodes:
                nodes[path[: depth + 1]] = _child(node, key)
        keys.append([ranks[path[:depth]][_name(key)] for depth, key in enumerate(path)])
    return sorted(range(len(keys)), key=keys.__getitem__)


def in_passing_order(tree: Any, like: Any) -> Any:
    """Return a tree whose dicts have the keys in the order of those of another, equal tree.

    JAX makes sorted dicts. Those inside of other containers than dicts, lists and tuples stay so.
    """
    if type(tree) is dict:
        return {key: in_passing_order(tree[key], like[key]) for key in like}
    if type(tree) in (list, tuple):
        return type(tree)(map(in_passing_order, tree, like))
    return tree


def is_sequence(tree: Any) -> bool:
    """Whether a tree is a list or a tuple of arrays, or of such: its owner has ordered it."""
    paths = (path for path, _ in jax.tree.leaves_with_path(tree))
    return all(isinstance(key, jax.tree_util.SequenceKey) for path in paths for key in path)


def _insertion(node: Any) -> dict[Any, int]:
    return {key: rank for rank, key in enumerate(node)} if isinstance(node, Mapping) else {}


def _name(key: Any) -> Any:
    """What a node has its child under: the key of a mapping; else any that tells children apart."""
    return key.key if isinstance(key, jax.tree_util.DictKey) else key


def _child(node: Any, key: Any) -> Any:
    """Return what is under a key; None where a container does not say how to look it up."""
    if isinstance(key, jax.tree_util.GetAttrKey):
        return getattr(node, key.name, None)
    if isinstance(key, jax.tree_util.SequenceKey):
        return node[key.idx]
    if isinstance(key, jax.tree_util.DictKey) and isinstance(node, Mapping):
        return node[key.key]
    return None
