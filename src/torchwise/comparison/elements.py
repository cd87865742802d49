"""The distances of elements: in ulps, relative, and absolute."""

from typing import NamedTuple

import ml_dtypes
import numpy as np

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class Apart(NamedTuple):
    """Elements that are not equal, all of one block.

    Two NaNs are equal, whatever their bits; so are 0.0 and -0.0. A NaN or an infinity and anything
    else are infinitely far apart.

    Attributes:
        positions: where they stand in the block.
        ulps: how many steps from number to number of the type lead from one to the other; no number
            where distances are not counted so.
        relative: the distance, divided by the larger magnitude.
        absolute: the distance.
        zeros: how many zeros have another sign.
    """

    positions: np.ndarray
    ulps: np.ndarray | None
    relative: np.ndarray
    absolute: np.ndarray
    zeros: int


def floats_apart(one: np.ndarray, other: np.ndarray) -> Apart:
    """Return what is apart of two arrays of one type of floats."""
    positions = np.flatnonzero(bits(one) != bits(other))
    one, other = one[positions], other[positions]
    a, b = one.astype(np.float64), other.astype(np.float64)
    zeros = (a == 0) & (b == 0)
    unequal = ~(zeros | (np.isnan(a) & np.isnan(b)))
    a, b, positions = a[unequal], b[unequal], positions[unequal]
    finite = np.isfinite(a) & np.isfinite(b)
    steps = _steps(one[unequal], other[unequal])
    ulps = np.where(finite, steps, np.iinfo(np.uint64).max)
    return Apart(positions, ulps, *_distances(a, b, finite), int(zeros.sum()))


def numbers_apart(one: np.ndarray, other: np.ndarray) -> Apart:
    """Return what is apart of integers, booleans, or two types of floats; in double precision."""
    if not {one.dtype.kind, other.dtype.kind} <= {*"biu"}:
        one, other = one.astype(np.float64), other.astype(np.float64)
    positions = np.flatnonzero(one != other)
    a, b = one[positions].astype(np.float64), other[positions].astype(np.float64)
    unequal = ~(np.isnan(a) & np.isnan(b))
    a, b, positions = a[unequal], b[unequal], positions[unequal]
    relative, absolute = _distances(a, b, np.isfinite(a) & np.isfinite(b))
    if one.dtype == other.dtype and one.dtype.kind in "iu":  # exactly, beyond 2**53 too
        x, y = one[positions], other[positions]
        larger, smaller = bits(np.maximum(x, y)), bits(np.minimum(x, y))
        absolute = (larger - smaller).astype(np.float64)  # modulo the range, which it fits into
    return Apart(positions, None, relative, absolute, 0)


def bits(array: np.ndarray) -> np.ndarray:
    """Return the bits of a contiguous array, as unsigned integers."""
    return array.view(_UNSIGNED[array.dtype.itemsize])


def _distances(a: np.ndarray, b: np.ndarray, finite: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(all="ignore"):
        larger = np.maximum(np.abs(a), np.abs(b))
        half = np.where(larger > 1, 0.5, 1.0)  # of the largest doubles, the difference overflows
        relative = np.abs(a * half - b * half) / (larger * half)
        absolute = np.abs(a - b)
    return np.where(finite, relative, np.inf), np.where(finite, absolute, np.inf)


def _steps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Count the steps between finite floats; their bits are a sign and a magnitude that ascends."""
    if one.dtype == ml_dtypes.float8_e8m0fnu:  # all of its bits are the exponent
        a, b = (bits(x).astype(np.int64) for x in (one, other))
    else:
        a, b = (_ordered(bits(x)) for x in (one, other))
    # The difference may need 64 bits: modulo 2**64 it is right.
    larger, smaller = np.maximum(a, b).view(np.uint64), np.minimum(a, b).view(np.uint64)
    return larger - smaller


def _ordered(unsigned: np.ndarray) -> np.ndarray:
    sign = unsigned.dtype.type(1 << (8 * unsigned.dtype.itemsize - 1))
    magnitude = (unsigned & ~sign).astype(np.int64)
    return np.where(unsigned & sign, -magnitude, magnitude)
