"""What a checkpoint may be made of, checked without recursion."""

import itertools
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from torchwise.checkpoint.errors import CheckpointError, Refused, where
from torchwise.checkpoint.explanations import unknown
from torchwise.checkpoint.limits import MAX_DEPTH, MAX_NODES
from torchwise.checkpoint.records import Name, Record
from torchwise.checkpoint.tensors import OTHER_TENSORS

_LEAVES = (
    *(str, int, float, bool, type(None), np.ndarray),
    *(bytes, bytearray, complex, *OTHER_TENSORS),
)
_CONTAINERS = (dict, list, tuple, Counter, set, Record)


class _Open:
    """A container that the walk is inside of.

    Attributes:
        container: itself.
        items: its keys and values that are still to be visited.
        key: of the value that is being visited.
        depth: containers inside each other, as far as is known, itself included.
        nodes: values, as far as is known, itself included.
    """

    __slots__ = ("container", "depth", "items", "key", "nodes")

    def __init__(self, container: Any) -> None:
        self.container = container
        self.items = _items(container)
        self.key: Any = None
        self.depth, self.nodes = 1, 1


def _items(container: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(container, Record):
        return container.parts()
    if isinstance(container, dict):
        keys = ((key, key) for key in container if type(key) in (tuple, Record, Name))
        return itertools.chain(keys, container.items())
    return iter(enumerate(container))


def check_tree(root: Any, recalled: Collection[int] = (), records: bool = False) -> Any:
    """Return the value, once it is sure that code which walks it comes to an end.

    A pickle can name one container many times, inside itself too: a few bytes then stand for a
    tree without end, or with more leaves than there are atoms. Only what is named many times is
    remembered, so that the check takes no memory to speak of.

    Args:
        root: what a file describes.
        recalled: identities of the containers that may be in several places.
        records: whether records may be inside. A record may contain itself, as objects do that know
            where they belong: code that walks plain containers never enters a record.

    Raises:
        CheckpointError: it is too deep, too large, contains itself, or holds what was refused; the
            text says under which key.
    """
    top = _Open([root])
    path = [top]
    entered: set[int] = set()
    known: dict[int, tuple[int, int]] = {}
    while path:
        parent = path[-1]
        entry = next(parent.items, None)
        if entry is None:
            path.pop()
            if path:
                entered.discard(id(parent.container))
                if id(parent.container) in recalled:
                    known[id(parent.container)] = parent.depth, parent.nodes
                _add(path, parent.depth, parent.nodes)
            continue
        parent.key, child = entry
        kind = type(child)
        if not records and isinstance(child, Record | Name):
            _fail(path, unknown(child))
        elif kind in _LEAVES or isinstance(child, np.generic | Name):
            _add(path, 0, 1)
        elif isinstance(child, Refused):
            _fail(path, child.reason)
        elif kind not in _CONTAINERS:
            _fail(path, f"holds a bare {kind.__name__}, which is not a value")
        elif id(child) in entered and _through_record(path, child):
            _add(path, 0, 1)
        elif id(child) in entered:
            _fail(path, "holds a container that contains itself")
        elif id(child) in known:
            _add(path, *known[id(child)])
        else:
            _check_depth(path, len(path))
            entered.add(id(child))
            path.append(_Open(child))
    return root


def _through_record(path: list[_Open], container: Any) -> bool:
    """Whether a record lies on the way from an open container to the innermost one."""
    inside = itertools.dropwhile(lambda one: one.container is not container, path)
    return any(type(one.container) is Record for one in inside)


def _add(path: list[_Open], depth: int, nodes: int) -> None:
    """Count what the innermost open container has been found to hold."""
    parent = path[-1]
    parent.depth = max(parent.depth, 1 + depth)
    parent.nodes += nodes
    _check_depth(path, len(path) - 1 + depth)
    if parent.nodes > MAX_NODES:
        _fail(path[:-1], f"unfolds to more than {MAX_NODES} values")


def _check_depth(path: list[_Open], depth: int) -> None:
    if depth > MAX_DEPTH:
        _fail(path, f"nests containers more than {MAX_DEPTH} deep")


def _fail(path: list[_Open], reason: str) -> None:
    keys = [parent.key for parent in path[1:]]
    raise CheckpointError(f"at {where(keys)}: {reason}" if keys else reason)
