"""The walk over a value that is saved, the same for every format."""

from collections import Counter, OrderedDict
from typing import Any, NamedTuple

import numpy as np

from torchwise.checkpoint.arrays import as_numpy
from torchwise.checkpoint.errors import CheckpointError, where
from torchwise.checkpoint.limits import (
    MAX_CONTAINERS,
    MAX_DEPTH,
    MAX_INT_BITS,
    MAX_KEY,
    MAX_NODES,
)

_MAPPINGS = (dict, OrderedDict, Counter)
_PARTS_OF_A_TENSOR = 8
_PARTS_OF_A_COUNTER = 3  # with the dict that it is made of, and the arguments of the call


class ArrayReference(NamedTuple):
    """Stands in a collected tree for an array.

    Attributes:
        position: place of the array in `Collection.arrays`.
    """

    position: int


class Collection(NamedTuple):
    """A value taken apart.

    Attributes:
        tree: the value, with python scalars for numpy scalars and references for arrays.
        arrays: its arrays; an object that occurs twice is in here once.
        paths: keys and indices that lead to each array's first place.
    """

    tree: Any
    arrays: list[np.ndarray]
    paths: list[tuple[Any, ...]]


def collect(value: Any) -> Collection:
    """Take a value apart into a tree of plain values and a list of arrays.

    Args:
        value: nested `dict`, `OrderedDict`, `Counter`, `list` and `tuple` of arrays, strings,
            numbers, booleans and None.

    Raises:
        TypeError: something else is inside; the text says where.
        CheckpointError: the value is too deep, too large, or contains itself.
    """
    collector = _Collector()
    tree = collector.visit(value, ())
    return Collection(tree, collector.arrays, collector.paths)


def _where(path: tuple[Any, ...]) -> str:
    return where(path) or "the value"


class _Collector:
    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self.paths: list[tuple[Any, ...]] = []
        self._references: dict[int, ArrayReference] = {}
        self._entered: set[int] = set()
        self._nodes = 0
        self._containers = 0

    def visit(self, value: Any, path: tuple[Any, ...]) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise CheckpointError(f"cannot save more than {MAX_NODES} values")
        if type(value) in (*_MAPPINGS, list, tuple):
            return self._visit_container(value, path)
        if id(value) in self._references:
            self._count(_PARTS_OF_A_TENSOR)
            return self._references[id(value)]
        array = as_numpy(value, f"cannot save {_where(path)}")
        if array is None:
            return _scalar(value, path)
        reference = ArrayReference(len(self.arrays))
        self.arrays.append(array)
        self.paths.append(path)
        self._references[id(value)] = reference
        return reference

    def _count(self, containers: int) -> None:
        """Count what reading will count; see `pickle_machine`."""
        self._containers += containers
        if self._containers > MAX_CONTAINERS:
            raise CheckpointError(f"cannot save more than {MAX_CONTAINERS} containers")

    def _visit_container(self, value: Any, path: tuple[Any, ...]) -> Any:
        if id(value) in self._entered:
            raise CheckpointError(f"cannot save {_where(path)}: it contains itself")
        if len(path) >= MAX_DEPTH:
            raise CheckpointError(
                f"cannot save {_where(path)}: more than {MAX_DEPTH} containers in each other"
            )
        self._count(_PARTS_OF_A_COUNTER if type(value) is Counter else 1)
        self._entered.add(id(value))
        if type(value) in _MAPPINGS:
            keys = [_key(key, path) for key in value]
            items = [self.visit(item, (*path, key)) for key, item in value.items()]
            result: Any = type(value)(dict(zip(keys, items, strict=True)))
        else:
            result = type(value)([self.visit(x, (*path, i)) for i, x in enumerate(value)])
        self._entered.remove(id(value))
        return result


def _key(key: Any, path: tuple[Any, ...]) -> Any:
    key = _scalar(key, (*path, key))
    if type(key) is int and abs(key) >= MAX_KEY:
        raise CheckpointError(f"cannot save {_where((*path, key))}: integer keys have 64 bits")
    return key


def _scalar(value: Any, path: tuple[Any, ...]) -> Any:
    scalar = value.item() if isinstance(value, np.generic) else value
    if type(scalar) not in (str, int, float, bool, type(None)):
        raise TypeError(
            f"cannot save {_where(path)} of type {type(value).__name__}; a checkpoint holds "
            "arrays, str, int, float, bool, None, and dict, OrderedDict, Counter, list, tuple"
        )
    if type(scalar) is int and scalar.bit_length() > MAX_INT_BITS:
        raise CheckpointError(
            f"cannot save {_where(path)}: the integer is longer than {MAX_INT_BITS} bits"
        )
    return scalar
