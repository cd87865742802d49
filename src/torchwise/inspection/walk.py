"""The walk over a checkpoint, which finds what there is to tell; text and JSON are made of it.

A few bytes of a file can name one value in many places: each container is told of once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchwise.checkpoint.inside import inside
from torchwise.checkpoint.records import Record, is_module
from torchwise.inspection.containers import is_container, is_optimizer
from torchwise.inspection.folding import Plainness

Path = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Same:
    """A container that was told of under another path."""

    path: Path
    first: Path


@dataclass(frozen=True, slots=True)
class Optimizer:
    """The state dict of an optimizer."""

    path: Path
    state_dict: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tensors:
    """The tensors of one dict, by their keys."""

    path: Path
    tensors: Mapping[Any, np.ndarray]


@dataclass(frozen=True, slots=True)
class Object:
    """A record, of whose parts entries follow; of a module, those of its state dict."""

    path: Path
    kind: str
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor outside of dicts, or anything else."""

    path: Path
    value: Any


@dataclass(frozen=True, slots=True)
class Folded:
    """A nest of plain values that is not laid open; its number of values, and its own keys."""

    path: Path
    count: int
    keys: Sequence[Any]


@dataclass(frozen=True, slots=True)
class More:
    """Plain values of a long container that are left out."""

    path: Path
    count: int


Entry = Same | Optimizer | Tensors | Object | Value | Folded | More


def entries(value: Any, *, fold: bool) -> Iterator[Entry]:
    """Yield what a checkpoint holds, in the order of the file.

    Args:
        value: what `torchwise.checkpoint.load` returned.
        fold: whether to leave out long parts that hold no tensors; see `folding`.
    """
    yield from _Walk(fold).entries(value, ())


class _Walk:
    def __init__(self, fold: bool) -> None:
        self._places: dict[int, Path] = {}
        self._plainness = Plainness()
        self._fold = fold
        self._made: list[Any] = []  # alive, since identities are remembered

    def entries(self, value: Any, path: Path) -> Iterator[Entry]:
        filled = is_container(value) and not isinstance(value, np.ndarray) and len(value)
        if filled or isinstance(value, Record):
            first = self._places.setdefault(id(value), path)
            if first is not path:
                yield Same(path, first)
                return
        if is_optimizer(value):
            yield Optimizer(path, value)
        elif isinstance(value, Mapping) and value:
            tensors = {key: one for key, one in value.items() if isinstance(one, np.ndarray)}
            if tensors:
                yield Tensors(path, tensors)
            yield from self._items(path, value, [key for key in value if key not in tensors])
        elif isinstance(value, list | tuple) and any(is_container(one) for one in value):
            yield from self._items(path, value, range(len(value)))
        elif isinstance(value, Record):
            yield from self._record(path, value)
        else:
            yield Value(path, value)

    def _record(self, path: Path, record: Record) -> Iterator[Entry]:
        parts = inside(record)
        if parts.keys() <= {"arguments"} and not any(map(is_container, record.arguments)):
            yield Value(path, record)
            return
        kind = "module" if is_module(record) else "record"
        yield Object(path, kind, record.name, len(parts))
        if kind == "module":  # its tensors are a table
            self._made.append(parts)
            yield from self.entries(parts, path)
            return
        for key, part in parts.items():
            yield from self.entries(part, (*path, key))

    def _items(self, path: Path, value: Any, keys: Iterable[Any]) -> Iterator[Entry]:
        keys = list(keys)
        nest = self._plainness.of(value) if self._fold else None
        if nest is not None and nest.is_deep:
            yield Folded(path, nest.values, keys)
            return
        plain = [key for key in keys if self._plainness.of(value[key])] if self._fold else []
        hidden = {*self._plainness.left_out(plain)}
        for key in keys:
            if key not in hidden:
                yield from self.entries(value[key], (*path, key))
        if hidden:
            yield More(path, len(hidden))
