"""Arrays that view part of the bytes of a file, after a check that the part is there."""

import math
from collections.abc import Sequence

import numpy as np

from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.limits import MAX_DIMENSIONS

_MAX_ELEMENTS = 2**58


def row_major_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Steps in elements of an array whose last dimension is contiguous."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def view(
    storage: np.ndarray,
    dtype: np.dtype,
    shape: Sequence[int],
    strides: Sequence[int] | None = None,
    offset: int = 0,
) -> np.ndarray:
    """View part of a storage as an array, after checking that it lies inside.

    Args:
        storage: bytes, one-dimensional, aligned.
        dtype: element type of the view.
        shape: non-negative sizes.
        strides: non-negative steps in elements, one per dimension; row-major if None.
        offset: first element, counted in elements.

    Returns:
        A read-only array that shares the storage's memory.
    """
    if len(shape) > MAX_DIMENSIONS:
        raise CheckpointError(f"tensor has {len(shape)} dimensions; numpy has {MAX_DIMENSIONS}")
    _check_integers("shape", shape)
    if math.prod(size or 1 for size in shape) > _MAX_ELEMENTS:
        raise CheckpointError(f"tensor shape {repr_short(shape)} is beyond what memory can hold")
    if strides is None:
        strides = row_major_strides(shape)
    if len(shape) != len(strides):
        raise CheckpointError(f"tensor has {len(shape)} sizes but {len(strides)} strides")
    _check_integers("strides", strides)
    _check_integers("offset", (offset,))
    if 0 in shape:
        return np.ndarray(tuple(shape), dtype, storage[:0])
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    available = storage.nbytes // dtype.itemsize
    if last >= available:
        raise CheckpointError(
            f"tensor reaches element {last} of a storage that holds {available} elements"
        )
    # The stride of a dimension of one element is never walked, and may be any number.
    steps = (stride if size > 1 else 0 for size, stride in zip(shape, strides, strict=True))
    return np.ndarray(
        tuple(shape),
        dtype,
        storage,
        offset * dtype.itemsize,
        tuple(step * dtype.itemsize for step in steps),
    )


def _check_integers(name: str, values: Sequence[int]) -> None:
    if not all(type(value) is int and value >= 0 for value in values):
        raise CheckpointError(f"tensor {name} {repr_short(values)} has an entry that is no size")
