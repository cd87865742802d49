"""What stands in for torch's functions that rebuild sparse, quantized, nested and meta tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np

from torchwise.checkpoint.budget import Budget
from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.limits import MAX_DIMENSIONS
from torchwise.checkpoint.storages import Storage
from torchwise.checkpoint.tensors import (
    MetaTensor,
    NestedTensor,
    QuantizedTensor,
    SparseTensor,
)
from torchwise.checkpoint.torch_tensors import COMPLEX32, DTYPES
from torchwise.checkpoint.views import view

_COMPRESSED = ("sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc")
_OBJECT = 256  # bytes that a small array takes


def other_tensors(budget: Budget) -> dict[str, Callable[..., Any]]:
    """Return stand-ins for torch's functions by name.

    Args:
        budget: of the file.
    """

    def sparse(layout: Any, data: Any) -> SparseTensor:
        tensor = _sparse(layout, data)
        parts = tensor.indices if isinstance(tensor.indices, tuple) else (tensor.indices,)
        budget.spend(3 * sum(part.nbytes for part in parts))
        problem = tensor.problem()
        if problem:
            raise CheckpointError(f"has a sparse tensor with {problem}")
        return tensor

    def nested(buffer: Any, *tables: Any) -> NestedTensor:
        arrays = (buffer, *tables)
        if len(tables) != 3 or not all(type(array) is np.ndarray for array in arrays):
            raise CheckpointError("has a nested tensor without its parts")
        sizes, strides, offsets = tables
        shapes = sizes.shape == strides.shape and offsets.shape == sizes.shape[:1]
        if buffer.ndim != 1 or sizes.ndim != 2 or not shapes or sizes.dtype != np.int64:
            raise CheckpointError("has a nested tensor whose parts do not fit")
        if not buffer.flags.c_contiguous:
            raise CheckpointError("has a nested tensor whose elements are spread")
        budget.spend(_OBJECT * len(sizes) + 64 * sizes.size)
        rows = zip(sizes.tolist(), strides.tolist(), offsets.tolist())
        return NestedTensor(tuple(view(buffer, buffer.dtype, *row) for row in rows))

    def jagged(parts: Any) -> NestedTensor:
        """Cut a nested tensor of the newer layout, whose tensors lie behind each other."""
        parts = parts if type(parts) is dict else {}
        values, offsets = parts.get("values"), parts.get("offsets")
        lengths, axis = parts.get("lengths"), parts.get("_ragged_idx", 1)
        integers = [
            type(array) is np.ndarray and array.dtype == np.int64 and array.ndim == 1
            for array in (offsets, lengths)
        ]
        if (
            type(values) is not np.ndarray
            or not integers[0]
            or not (integers[1] or lengths is None)
        ):
            raise CheckpointError("has a nested tensor without its parts")
        if type(axis) is not int or not 1 <= axis <= values.ndim or not len(offsets):
            raise CheckpointError("has a nested tensor whose parts do not fit")
        budget.spend(_OBJECT * len(offsets))
        starts = offsets[:-1].tolist()
        sizes = (np.diff(offsets) if lengths is None else lengths).tolist()
        if len(sizes) != len(starts) or any(
            start < 0 or size < 0 or start + size > values.shape[axis - 1]
            for start, size in zip(starts, sizes)
        ):
            raise CheckpointError("has a nested tensor that reaches out of its elements")
        before = (slice(None),) * (axis - 1)
        return NestedTensor(
            tuple(values[*before, start : start + size] for start, size in zip(starts, sizes))
        )

    return {
        "torch.nested._internal.nested_tensor._rebuild_njt": jagged,
        "torch._utils._rebuild_sparse_tensor": sparse,
        "torch._utils._rebuild_nested_tensor": nested,
        "torch._utils._rebuild_qtensor": _quantized,
        "torch._utils._rebuild_meta_tensor_no_storage": _meta,
    }


def _sizes(shape: Any) -> tuple[int, ...]:
    """Check a shape that no memory stands behind."""
    entries = type(shape) is tuple and all(type(size) is int and size >= 0 for size in shape)
    if not entries or len(shape) > MAX_DIMENSIONS or any(size >= 2**63 for size in shape):
        raise CheckpointError(f"has a tensor of the shape {repr_short(shape)}")
    return shape


def _sparse(layout: Any, data: Any) -> SparseTensor:
    parts: Any = data if type(data) is tuple else ()
    if layout == "torch.sparse_coo" and len(parts) in (3, 4):
        indices, values, shape, *rest = parts
        coalesced = rest[0] if rest else None
        arrays = (indices, values)
        known = type(coalesced) in (bool, type(None))
    elif type(layout) is str and layout.removeprefix("torch.") in _COMPRESSED and len(parts) == 4:
        *arrays, values, shape = parts
        indices, coalesced, known = tuple(arrays), None, True
        arrays = (*arrays, values)
    else:
        raise CheckpointError(f"has a sparse tensor of the layout {repr_short(layout)}")
    if not known or not all(type(array) is np.ndarray and array.ndim for array in arrays):
        raise CheckpointError("has a sparse tensor without its parts")
    return SparseTensor(layout.removeprefix("torch."), _sizes(shape), indices, values, coalesced)


def _quantized(
    storage: Any, offset: Any, size: Any, stride: Any, how: Any, _grad: Any, _hooks: Any
) -> QuantizedTensor:
    if type(storage) is not Storage or not storage.type.quantized:
        raise CheckpointError(f"has a quantized tensor on {repr_short(storage)}")
    if type(size) is not tuple or type(stride) is not tuple:
        raise CheckpointError("has a tensor whose sizes or strides are not a tuple")
    values = view(storage.data, storage.type.dtype, size, stride, offset)
    match how:
        case ("torch.per_tensor_affine", float(scale), int(zero_point)):
            return QuantizedTensor(values, scale, zero_point, None, "per_tensor_affine")
        case (
            "torch.per_channel_affine" | "torch.per_channel_affine_float_qparams" as scheme,
            np.ndarray() as scales,
            np.ndarray() as zero_points,
            int(axis),
        ) if 0 <= axis < values.ndim and scales.shape == zero_points.shape == (size[axis],):
            name = scheme.removeprefix("torch.")
            return QuantizedTensor(values, scales, zero_points, axis, name)
    raise CheckpointError("has a quantized tensor without scales and zero points that fit")


def _meta(dtype: Any, size: Any, _stride: Any, _requires_grad: Any) -> MetaTensor:
    if type(dtype) is not str or dtype not in DTYPES or DTYPES[dtype] == COMPLEX32:
        raise CheckpointError(f"has a meta tensor of {repr_short(dtype)}")
    return MetaTensor(_sizes(size), DTYPES[dtype])
