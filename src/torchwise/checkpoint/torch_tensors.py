"""How torch's functions that rebuild dense tensors are stood in for."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from torchwise.checkpoint.budget import Budget
from torchwise.checkpoint.constructors import Constructor
from torchwise.checkpoint.dtypes import BY_TORCH
from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.records import Name, Record
from torchwise.checkpoint.storages import Storage
from torchwise.checkpoint.tensors import OTHER_TENSORS, NestedTensor
from torchwise.checkpoint.views import view

COMPLEX32 = np.dtype("V4")  # two float16
DTYPES: Mapping[str, np.dtype] = {
    **{f"torch.{name}": row.numpy for name, row in BY_TORCH.items()},
    # Of types without arithmetic, the bits are the value.
    **{f"torch.{name}": np.dtype("u1") for name in ("bits8", "bits1x8", "bits2x4", "bits4x2")},
    "torch.bits16": np.dtype("<u2"),
    "torch.float4_e2m1fn_x2": np.dtype("u1"),
    "torch.complex32": COMPLEX32,
}
_TENSORS = (np.ndarray, *OTHER_TENSORS, Record)
_MODULES = ("torch._utils", "torch.nested._internal.nested_tensor")  # of functions of tensors
_PLAIN_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")


def dense_tensors(budget: Budget) -> dict[str, Callable[..., Any]]:
    """Return stand-ins for torch's functions by name.

    Args:
        budget: of the file.
    """

    def tensor(
        storage: Any,
        offset: Any,
        size: Any,
        stride: Any,
        _requires_grad: Any = None,
        _hooks: Any = None,
        bits: Any = None,
    ) -> np.ndarray:
        if type(storage) is not Storage:
            raise CheckpointError(f"has a tensor on {repr_short(storage)} instead of a storage")
        if storage.type.quantized:
            raise CheckpointError("has a plain tensor on the integers of a quantized one")
        return _viewed(storage, storage.type.dtype, offset, size, stride, bits, budget)

    def tensor_of_dtype(
        storage: Any,
        offset: Any,
        size: Any,
        stride: Any,
        _requires_grad: Any,
        _hooks: Any,
        dtype: Any,
        bits: Any = None,
    ) -> np.ndarray:
        """Type an untyped storage."""
        if type(storage) is not Storage or type(dtype) is not str or dtype not in DTYPES:
            raise CheckpointError(f"has a tensor of {repr_short(dtype)} on {repr_short(storage)}")
        return _viewed(storage, DTYPES[dtype], offset, size, stride, bits, budget)

    return {
        "torch._utils._rebuild_tensor": tensor,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_tensor_v3": tensor_of_dtype,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch._utils._rebuild_device_tensor_from_cpu_tensor": _parameter,
        "torch._tensor._rebuild_from_type_v2": _of_type,
    }


def _viewed(
    storage: Storage, dtype: np.dtype, offset: Any, size: Any, stride: Any, bits: Any, own: Budget
) -> np.ndarray:
    if type(size) is not tuple or type(stride) is not tuple:
        raise CheckpointError("has a tensor whose sizes or strides are not a tuple")
    array = view(storage.data, dtype, size, stride, offset)
    if type(bits) not in (dict, type(None)) or not {"conj", "neg"} >= (bits or {}).keys():
        raise CheckpointError(f"has a tensor with the bits {repr_short(bits)}")
    if dtype == COMPLEX32:
        own.spend(3 * array.nbytes)
        halves = np.ascontiguousarray(array).reshape(-1).view("<f2").reshape(*array.shape, 2)
        array = np.empty(array.shape, np.complex64)
        array.real, array.imag = halves[..., 0], halves[..., 1]
    for bit, compute in (("conj", np.conjugate), ("neg", np.negative)):
        if bits and bits.get(bit):
            own.spend(array.nbytes)
            array = np.asarray(compute(array))
    array.flags.writeable = False
    return array


def _parameter(data: Any, *_: Any) -> Any:
    """Give the tensor itself: what a parameter has beside it are attributes."""
    if not isinstance(data, _TENSORS):
        raise CheckpointError(f"has a parameter on {repr_short(data)} instead of a tensor")
    return data


def _of_type(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """Give the tensor itself, or a record with it where the class is not one of torch's own."""
    names = isinstance(function, Name) and isinstance(kind, Name)
    if not names or type(arguments) is not tuple:
        raise CheckpointError("has a tensor of a subclass that torch.save does not write")
    if type(function) is not Constructor:
        return Record(kind, (Record(function, arguments),), "viewed", state)
    if function.module not in _MODULES:
        raise CheckpointError(f"has a tensor of a subclass made by {function}")
    tensor = function.build(*arguments)
    if str(kind) in _PLAIN_CLASSES or type(tensor) is NestedTensor:
        return tensor
    return Record(kind, (tensor,), "viewed", state)
