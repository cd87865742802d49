"""Which parts of a checkpoint are long and say little: nests of counters, and long lists.

A part that holds a tensor or a record is never folded.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from torchwise.checkpoint.records import Record
from torchwise.checkpoint.tensors import OTHER_TENSORS

_MAX_DEPTH = 3  # a configuration nests less, Lightning's `loops` more
_MAX_VALUES = 24
_LONG = 40  # from here on
_SHOWN = 20  # so many values of a container are shown


class Nest(NamedTuple):
    """A value without tensors: how many plain values it holds, and how deep it nests."""

    values: int
    depth: int

    @property
    def is_deep(self) -> bool:
        """Whether it is shown on one line."""
        return self.depth > _MAX_DEPTH and self.values > _MAX_VALUES


class Plainness:
    """Counts plain values; remembers containers, which may stand in many places."""

    def __init__(self) -> None:
        self._known: dict[int, Nest | None] = {}

    def of(self, value: Any) -> Nest | None:
        """Return the counts of a value, or None if there is a tensor or a record in it."""
        if isinstance(value, np.ndarray):
            return Nest(1, 0) if value.ndim == 0 else None
        if isinstance(value, (Record, *OTHER_TENSORS)):
            return None
        if not isinstance(value, Mapping | list | tuple):
            return Nest(1, 0)
        if id(value) not in self._known:
            children = value.values() if isinstance(value, Mapping) else value
            self._known[id(value)] = self._sum([self.of(child) for child in children])
        return self._known[id(value)]

    @staticmethod
    def _sum(nests: Sequence[Nest | None]) -> Nest | None:
        count, depth = 0, 0
        for nest in nests:
            if nest is None:
                return None
            count, depth = count + nest.values, max(depth, nest.depth)
        return Nest(max(count, 1), depth + 1)  # an empty container is a value, too

    @staticmethod
    def left_out(keys: Sequence[Any]) -> Sequence[Any]:
        """Return those of the keys of plain values that are not shown."""
        return keys[_SHOWN:] if len(keys) > _LONG else []
