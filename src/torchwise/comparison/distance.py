"""How far two tensors of one shape are apart."""

import math
from dataclasses import dataclass, field

import numpy as np

from torchwise.checkpoint.progress import advanced
from torchwise.comparison.blocks import Block, Pair
from torchwise.comparison.elements import Apart, bits, floats_apart, numbers_apart
from torchwise.comparison.limits import Limits

_POWERS = 2 ** np.arange(64, dtype=np.uint64)
BINS = 66
"""Of a histogram: equal, 1 ulp, 2 to 3, 4 to 7, ... 2**63 and more, and infinitely far."""


@dataclass(slots=True)
class Distance:
    """The largest distances, each of any element.

    Attributes:
        size: the number of elements.
        unequal: how many are not equal.
        beyond: how many are beyond the limits.
        ulps: None where distances are not counted so: for integers and booleans, and for types of
            which neither is the coarser.
        relative: to the larger of the two elements.
        absolute: the distance itself.
        place: the indices of the element that is the furthest, by ulps or else relative.
        zeros: how many zeros have another sign; they are equal.
        bins: how many elements are apart by so many ulps, see `BINS`.
        rounds: whether the elements are floats, for which the limits are.
        is_known: False where dimensions overlap, so that the elements are more than their memory.
    """

    size: int
    unequal: int = 0
    beyond: int = 0
    ulps: float | None = None
    relative: float = 0.0
    absolute: float = 0.0
    place: tuple[int, ...] | None = None
    zeros: int = 0
    bins: list[int] = field(default_factory=lambda: [0] * BINS)
    rounds: bool = True
    is_known: bool = True


def distance(one: np.ndarray, other: np.ndarray, limits: Limits) -> Distance:
    """Compare two tensors of one shape, and of one type or similar types, block by block.

    A complex number is a pair of numbers. Of two types of floats, the finer one is rounded to the
    coarser one.
    """
    is_complex = one.dtype.kind == "c"
    if is_complex:
        one, other = _parts(one), _parts(other)
    pair = Pair(one, other)
    found = Distance(size=one.size, rounds=is_float(one.dtype))
    if not pair.is_readable:
        found.is_known, found.unequal, found.beyond = False, one.size, one.size
        return found
    coarse = _coarser(one.dtype, other.dtype)
    if coarse is not None:
        found.ulps = 0
    furthest: tuple[float, float] = (-1.0, -1.0)
    for block in pair:
        apart = _apart(block, coarse)
        furthest = _add(found, pair, block, apart, limits, furthest)
        advanced(block.one.nbytes + block.other.nbytes)
    if coarse is not None:
        found.bins[0] = found.size - sum(found.bins[1:])
    if is_complex and found.place is not None:
        found.place = found.place[:-1]
    return found


def similar(one: np.dtype, other: np.dtype) -> bool:
    """Whether the numbers of two types can be compared: both are floats, integers, or complex."""
    return _sort(one) == _sort(other)


def is_float(dtype: np.dtype) -> bool:
    """Whether a type is one of floats."""
    return dtype.kind == "f" or "float" in dtype.name  # those of ml_dtypes have other kinds, too


def _sort(dtype: np.dtype) -> str:
    return "f" if is_float(dtype) else dtype.kind.replace("u", "i")


def _apart(block: Block, coarse: np.dtype | None) -> Apart | None:
    """Return what is apart, or None if nothing is."""
    one, other = block.one, block.other
    if one.dtype == other.dtype and np.array_equal(bits(one), bits(other)):
        return None
    with np.errstate(all="ignore"):  # NaNs, and what the coarser type has no room for
        if coarse is None:
            return numbers_apart(one, other)
        return floats_apart(one.astype(coarse), other.astype(coarse))


def _add(
    found: Distance,
    pair: Pair,
    block: Block,
    apart: Apart | None,
    limits: Limits,
    furthest: tuple[float, float],
) -> tuple[float, float]:
    """Add what is apart in one block; return the largest distance so far."""
    if apart is None:
        return furthest
    found.zeros += apart.zeros * pair.repeats
    count = apart.positions.size
    if not count:
        return furthest
    found.unequal += count * pair.repeats
    found.relative = max(found.relative, float(apart.relative.max()))
    found.absolute = max(found.absolute, float(apart.absolute.max()))
    found.beyond += count * pair.repeats
    if found.rounds:
        allowed = limits.allow(apart.ulps, apart.relative, apart.absolute)
        found.beyond -= int(allowed.sum()) * pair.repeats
    far = np.isinf(apart.relative)
    order = apart.relative if apart.ulps is None else np.where(far, np.inf, apart.ulps)
    most = int(order.argmax())
    here = (float(order[most]), float(apart.relative[most]))
    if apart.ulps is not None:
        found.ulps = max(found.ulps or 0, math.inf if far[most] else int(apart.ulps[most]))
        numbers = np.where(far, BINS - 1, np.searchsorted(_POWERS, apart.ulps, side="right"))
        for index, several in enumerate(np.bincount(numbers, minlength=BINS)):
            found.bins[index] += int(several) * pair.repeats
    if here > furthest:
        found.place = pair.place(block.start + int(apart.positions[most]))
    return max(here, furthest)


def _parts(array: np.ndarray) -> np.ndarray:
    """Return complex numbers as pairs, along a new last axis, without a copy."""
    real = np.real(array)
    shape, strides = (*array.shape, 2), (*array.strides, real.dtype.itemsize)
    return np.lib.stride_tricks.as_strided(real, shape, strides, writeable=False)


def _coarser(one: np.dtype, other: np.dtype) -> np.dtype | None:
    """Return the float type in whose ulps two types are compared."""
    if not (is_float(one) and is_float(other)):
        return None
    if one == other:
        return one
    if one.itemsize == other.itemsize:
        return None
    return min(one, other, key=lambda dtype: dtype.itemsize)
