"""Distances in ulp: units in the last place of a type, at a magnitude."""

import ml_dtypes
import numpy as np


def ulp(magnitude: np.ndarray) -> np.ndarray:
    """The spacing of the array's own type at each magnitude, as float64."""
    info = ml_dtypes.finfo(magnitude.dtype)
    wide = np.abs(magnitude.astype(np.float64))
    exponent = np.frexp(np.maximum(wide, float(info.smallest_normal)))[1] - 1
    return np.ldexp(1.0, exponent - info.nmant)


def ulps(ours, theirs, before=None) -> np.ndarray:
    """The distance of each element, in ulp of the larger of the two values and of `before`.

    A step from `before` rounds at the magnitude of `before`; where the result cancels to
    something small, an ulp of the result would count that one rounding many times.
    """
    ours, theirs = np.atleast_1d(np.asarray(ours)), np.atleast_1d(np.asarray(theirs))
    assert ours.dtype == theirs.dtype, (ours.dtype, theirs.dtype)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    magnitude = np.maximum(np.abs(ours), np.abs(theirs))
    if before is not None:
        magnitude = np.maximum(magnitude, np.abs(np.atleast_1d(before)))
    if np.iscomplexobj(ours):  # a complex number is as exact as its larger part
        magnitude = magnitude.astype(ours.real.dtype)
    wide = np.complex128 if np.iscomplexobj(ours) else np.float64
    with np.errstate(invalid="ignore"):
        apart = np.abs(ours.astype(wide) - theirs.astype(wide)) / ulp(magnitude)
    equal = (ours == theirs) | np.isnan(ours)  # infinities are no distance apart
    return np.where(equal, 0.0, apart)


def ulps_apart(ours, theirs, before=None) -> float:
    """The largest distance of two arrays in ulp, see `ulps`."""
    return float(np.max(ulps(ours, theirs, before), initial=0.0))


def same_bits(ours, theirs) -> bool:
    """Whether two arrays agree in type, shape and every bit, signs of zeros included."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    same_kind = (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    return same_kind and ours.tobytes() == theirs.tobytes()


def same_numbers(ours, theirs) -> bool:
    """`same_bits` but for NaN, of which there are many: NaN in both is the same."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
        return False
    valid = ~(np.isnan(ours) & np.isnan(theirs))
    return ours[valid].tobytes() == theirs[valid].tobytes()
