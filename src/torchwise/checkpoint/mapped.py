"""A file as memory: read-only arrays that look straight into the mapped bytes."""

import math
import mmap
import os
from collections.abc import Sequence

import numpy as np

from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.limits import MAX_DIMENSIONS

_ALIGNMENT = 8  # of every element type: numpy aligns complex128 like the floats inside it
_MAX_ELEMENTS = 2**58


def map_file(path: str | os.PathLike[str]) -> mmap.mmap:
    """Map a regular file read-only.

    Nothing is read until it is touched. The mapping lives as long as an array that views it, and
    survives the replacement of the file by `save`; a program that truncates the file breaks it.
    """
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise CheckpointError("is not a regular file")
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise CheckpointError("is empty")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def row_major_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Steps in elements of an array whose last dimension is contiguous."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def aligned(storage: np.ndarray, alignment: int = _ALIGNMENT) -> np.ndarray:
    """Return the storage itself, or a read-only copy where its elements would not be aligned.

    torch aligns its members to 64 bytes, so this copies nothing but the files of other writers.

    Args:
        storage: bytes.
        alignment: what the elements need; by default what any element type needs.
    """
    if storage.__array_interface__["data"][0] % alignment == 0:
        return storage
    storage = storage.copy()
    storage.flags.writeable = False
    return storage


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
