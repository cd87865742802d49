"""The walk over a value that is saved, the same for every format."""

import dataclasses
from collections import Counter, OrderedDict
from typing import Any, NamedTuple

import numpy as np

from torchwise.checkpoint.arrays import as_numpy
from torchwise.checkpoint.dtypes import element_type
from torchwise.checkpoint.errors import CheckpointError, where
from torchwise.checkpoint.limits import (
    MAX_CONTAINERS,
    MAX_DEPTH,
    MAX_INT_BITS,
    MAX_KEY,
    MAX_NODES,
)
from torchwise.checkpoint.numpy_values import described
from torchwise.checkpoint.records import Name, Record, is_module, is_tensor_key
from torchwise.checkpoint.tensors import OTHER_TENSORS, MetaTensor, NestedTensor

_MAPPINGS = (dict, OrderedDict, Counter)
_SEQUENCES = (list, tuple, set)
_PLAIN = (str, int, float, bool, type(None), complex, bytes, bytearray)
_PARTS_OF_A_TENSOR = 8
_PARTS_OF_A_RECORD = 4
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


def collect(value: Any, of_torch: bool = False) -> Collection:
    """Take a value apart into a tree of plain values and a list of arrays.

    Args:
        value: nested `dict`, `OrderedDict`, `Counter`, `list`, `tuple` and `set` of arrays,
            strings, bytes, numbers, booleans and None.
        of_torch: whether the format has records and the tensors that no array is.

    Raises:
        TypeError: something else is inside; the text says where.
        CheckpointError: the value is too deep, too large, or contains itself.
    """
    collector = _Collector(of_torch)
    tree = collector.visit(value, ())
    return Collection(tree, collector.arrays, collector.paths)


def _where(path: tuple[Any, ...]) -> str:
    return where(path) or "the value"


class _Collector:
    def __init__(self, of_torch: bool) -> None:
        self._of_torch = of_torch
        self._records: dict[int, Record] = {}
        self._of_numpy: dict[int, np.ndarray] = {}
        self._inside = 0
        self._kept: list[Any] = []  # alive, since identities are remembered
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
        if type(value) in (*_MAPPINGS, *_SEQUENCES):
            return self._visit_container(value, path)
        if isinstance(value, (Record, Name, *OTHER_TENSORS)):
            return self._visit_of_torch(value, path)
        if id(value) in self._references:
            self._count(_PARTS_OF_A_TENSOR)
            return self._references[id(value)]
        if self._inside and (isinstance(value, np.generic) or id(value) in self._of_numpy):
            return self.visit(described(value), path)
        array = as_numpy(value, f"cannot save {_where(path)}")
        if array is None:
            return _scalar(value, path)
        reference = ArrayReference(len(self.arrays))
        self.arrays.append(array)
        self.paths.append(path)
        self._references[id(value)] = reference
        return reference

    def _visit_of_torch(self, value: Any, path: tuple[Any, ...]) -> Any:
        if not self._of_torch:
            raise TypeError(
                f"cannot save {_where(path)} of type {type(value).__name__} in this format; .pt "
                "and .pth hold it"
            )
        if isinstance(value, Name):
            return Name(value.module, value.qualname)
        if not isinstance(value, Record):
            return self._visit_tensor(value, path)
        if id(value) not in self._records:
            self._count(_PARTS_OF_A_RECORD)
            self._check_depth(path)
            if is_module(value):
                raise TypeError(
                    f"cannot save {_where(path)}, a whole module, whose parameters are arrays now; "
                    "save module_state_dict(module)"
                )
            self._of_numpy.update(value.of_numpy or {})
            self._kept.append(value)
            self._inside += 1
            self._records[id(value)] = copy = dataclasses.replace(value)
            copy.function = self.visit(value.function, (*path, "function"))
            for key, part in value.parts():
                setattr(copy, key, self.visit(part, (*path, key)))
            self._inside -= 1
        return self._records[id(value)]

    def _visit_tensor(self, value: Any, path: tuple[Any, ...]) -> Any:
        self._count(_PARTS_OF_A_TENSOR)
        if isinstance(value, NestedTensor):
            raise TypeError(f"cannot save {_where(path)}, a nested tensor; save list(x.tensors)")
        if isinstance(value, MetaTensor):
            if element_type(value.dtype) is None:
                raise TypeError(f"cannot save {_where(path)}: torch has no dtype {value.dtype}")
            return value
        names = [field.name for field in dataclasses.fields(value)]
        parts = {name: self.visit(getattr(value, name), (*path, name)) for name in names}
        return dataclasses.replace(value, **parts)

    def _check_depth(self, path: tuple[Any, ...]) -> None:
        if len(path) >= MAX_DEPTH:
            raise CheckpointError(
                f"cannot save {_where(path)}: more than {MAX_DEPTH} containers in each other"
            )

    def _count(self, containers: int) -> None:
        """Count what reading will count; see `pickle_machine`."""
        self._containers += containers
        if self._containers > MAX_CONTAINERS:
            raise CheckpointError(f"cannot save more than {MAX_CONTAINERS} containers")

    def _visit_container(self, value: Any, path: tuple[Any, ...]) -> Any:
        if id(value) in self._entered:
            raise CheckpointError(f"cannot save {_where(path)}: it contains itself")
        self._check_depth(path)
        self._count(_PARTS_OF_A_COUNTER if type(value) is Counter else 1)
        self._entered.add(id(value))
        if type(value) in _MAPPINGS:
            keys = [self._key(key, path) for key in value]
            items = [self.visit(item, (*path, key)) for key, item in value.items()]
            result: Any = type(value)(dict(zip(keys, items, strict=True)))
        else:
            result = type(value)([self.visit(x, (*path, i)) for i, x in enumerate(value)])
        self._entered.remove(id(value))
        return result

    def _key(self, key: Any, path: tuple[Any, ...]) -> Any:
        path = (*path, key)
        if is_tensor_key(key):
            raise TypeError(f"cannot save {_where(path)}: a tensor as a key is known by identity")
        if isinstance(key, tuple | Record | Name):
            return self.visit(key, path)
        if type(key) is bytearray:
            raise TypeError(f"cannot save {_where(path)}: a bytearray is no key")
        key = _scalar(key, path)
        if type(key) is int and abs(key) >= MAX_KEY:
            raise CheckpointError(f"cannot save {_where(path)}: integer keys have 64 bits")
        return key


def _scalar(value: Any, path: tuple[Any, ...]) -> Any:
    scalar = value.item() if isinstance(value, np.generic) else value
    if type(scalar) not in _PLAIN:
        if hasattr(value, "_fields"):
            raise TypeError(
                f"cannot save {_where(path)} of type {type(value).__name__}, a named tuple; save "
                "to_state_dict(transform, state, params) of a transform's state, else x._asdict()"
            )
        raise TypeError(
            f"cannot save {_where(path)} of type {type(value).__name__}; a checkpoint holds "
            "arrays, str, bytes, bytearray, int, float, complex, bool, None, and dict, "
            "OrderedDict, Counter, list, tuple, set"
        )
    if type(scalar) is int and scalar.bit_length() > MAX_INT_BITS:
        raise CheckpointError(
            f"cannot save {_where(path)}: the integer is longer than {MAX_INT_BITS} bits"
        )
    return scalar
