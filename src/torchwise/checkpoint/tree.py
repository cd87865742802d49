"""What a checkpoint may be made of, checked without recursion."""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from torchwise.checkpoint.errors import CheckpointError
from torchwise.checkpoint.limits import MAX_DEPTH, MAX_NODES

_LEAVES = (str, int, float, bool, type(None), np.ndarray)
_CONTAINERS = (dict, list, tuple, Counter)


class _Extent(NamedTuple):
    depth: int
    nodes: int


_LEAF = _Extent(0, 1)


def check_tree(root: Any) -> Any:
    """Return the value, once it is sure that code which walks it comes to an end.

    A pickle can name one container many times, inside itself too: a few bytes then stand for a
    tree without end, or with more leaves than there are atoms.

    Args:
        root: what a file describes.
    """
    extents: dict[int, _Extent] = {}
    entered: set[int] = set()
    pending = [root]
    while pending:
        value = pending[-1]
        if id(value) in extents or type(value) in _LEAVES:
            pending.pop()
        elif id(value) in entered:
            extents[id(value)] = _measure(value, extents)
            pending.pop()
        elif type(value) in _CONTAINERS:
            entered.add(id(value))
            pending += _open_children(value, entered, extents)
        else:
            raise CheckpointError(f"holds a bare {type(value).__name__}, which is not a value")
    return root


def _children(container: Any) -> Any:
    return container.values() if isinstance(container, dict) else container


def _open_children(container: Any, entered: set[int], extents: dict[int, _Extent]) -> list[Any]:
    children = [child for child in _children(container) if id(child) not in extents]
    if any(id(child) in entered for child in children):
        raise CheckpointError("holds a container that contains itself")
    return children


def _measure(container: Any, extents: dict[int, _Extent]) -> _Extent:
    parts = [extents.get(id(child), _LEAF) for child in _children(container)]
    depth = 1 + max((part.depth for part in parts), default=0)
    nodes = 1 + sum(part.nodes for part in parts)
    if depth > MAX_DEPTH:
        raise CheckpointError(f"nests containers more than {MAX_DEPTH} deep")
    if nodes > MAX_NODES:
        raise CheckpointError(f"unfolds to more than {MAX_NODES} values")
    return _Extent(depth, nodes)
