"""Two arrays of one shape, block by block: whatever their size, little memory is needed."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_BLOCK = 2**16


class Block(NamedTuple):
    """Elements at the same places of two arrays, one-dimensional and contiguous.

    Attributes:
        start: the place of the first, in row-major order of `Pair.shape`.
    """

    start: int
    one: np.ndarray
    other: np.ndarray


class Pair:
    """Two arrays of one shape. Dimensions that repeat their elements in both are read once.

    Args:
        one: an array.
        other: another one; its type may be different.

    Attributes:
        repeats: how often each element that is read stands in the arrays.
        is_readable: whether the elements are not many more than their memory, as those of windows
            that overlap are.
    """

    def __init__(self, one: np.ndarray, other: np.ndarray) -> None:
        strides = zip(one.shape, one.strides, other.strides)
        self._again = [size > 1 and not (a or b) for size, a, b in strides]
        self.repeats = math.prod(n for n, again in zip(one.shape, self._again) if again)
        index = tuple(slice(0, 1) if again else slice(None) for again in self._again)
        self._one, self._other = one[(*index, ...)], other[(*index, ...)]
        reach = max(map(_reach, (self._one, self._other)))
        self.is_readable = self._one.size <= reach or self._one.size <= _BLOCK

    def place(self, position: int) -> tuple[int, ...]:
        """Return the indices of an element by its place in row-major order."""
        return tuple(map(int, np.unravel_index(position, self._one.shape)))

    def __iter__(self) -> Iterator[Block]:
        if self._one.size == 0:
            return
        pairs = np.nditer(
            (self._one, self._other), ["external_loop", "buffered"], order="C", buffersize=_BLOCK
        )
        start = 0
        for one, other in pairs:
            yield Block(start, *map(np.ascontiguousarray, (one, other)))
            start += one.size


def _reach(array: np.ndarray) -> int:
    """How many elements lie between the first and the last, both counted."""
    steps = ((size - 1) * abs(stride) for size, stride in zip(array.shape, array.strides))
    return 1 + sum(steps) // max(array.itemsize, 1)
