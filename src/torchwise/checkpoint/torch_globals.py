"""The names that a torch pickle may mention, each bound to a function or value of our own."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchwise.checkpoint.dtypes import BY_STORAGE, BY_TORCH
from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.pickle_machine import Constructor
from torchwise.checkpoint.views import view


@dataclass(frozen=True, slots=True)
class StorageType:
    """Class of a storage in a persistent id.

    Attributes:
        dtype: its elements; bytes for `UntypedStorage`, whose tensors bring their own dtype.
    """

    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Storage:
    """Elements that tensors view.

    Attributes:
        type: how the pickle types them.
        data: their bytes, in the mapped file.
    """

    type: StorageType
    data: np.ndarray


def find_global(module: str, name: str) -> Any:
    """Resolve a name by table; nothing is imported whatever the file says."""
    full_name = f"{module}.{name}"
    if full_name in _GLOBALS:
        return _GLOBALS[full_name]
    for word, kind in _REFUSED.items():
        if word in full_name:
            raise CheckpointError(f"holds {kind} ({repr_short(full_name)}), which is not supported")
    raise CheckpointError(
        f"names {repr_short(full_name)}, which is not part of a plain checkpoint; save only "
        "tensors, numbers, strings and containers, such as the state_dict() of each object"
    )


_REFUSED: Mapping[str, str] = {
    "_rebuild_sparse": "a sparse tensor",
    "_rebuild_qtensor": "a quantized tensor",
    "torch.QU": "a quantized tensor",
    "torch.QI": "a quantized tensor",
    "_rebuild_nested": "a nested tensor",
    "_rebuild_njt": "a nested tensor",
    "_rebuild_meta": "a meta tensor, which has no data",
    "torch.complex32": "a complex32 tensor, which numpy cannot represent",
    "_rebuild_from_type": "a tensor of a subclass or with attributes; save tensor.detach()",
    "_with_state": "a parameter with attributes; save parameter.detach()",
    "multiarray": "a numpy object; save float(scalar) or torch.from_numpy(array)",
}


def _tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    _requires_grad: Any,
    _hooks: Any,
    bits: Any = None,
) -> np.ndarray:
    """Stand in for `torch._utils._rebuild_tensor_v2`."""
    if type(storage) is not Storage:
        raise CheckpointError(f"has a tensor on {repr_short(storage)} instead of a storage")
    return _view(storage, storage.type.dtype, offset, size, stride, bits)


def _tensor_of_dtype(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    _requires_grad: Any,
    _hooks: Any,
    dtype: Any,
    bits: Any = None,
) -> np.ndarray:
    """Stand in for `torch._utils._rebuild_tensor_v3`, which types an untyped storage."""
    if type(storage) is not Storage or type(dtype) is not str or dtype not in _DTYPES:
        raise CheckpointError(f"has a tensor of {repr_short(dtype)} on {repr_short(storage)}")
    return _view(storage, _DTYPES[dtype], offset, size, stride, bits)


def _view(
    storage: Storage, dtype: np.dtype, offset: Any, size: Any, stride: Any, bits: Any
) -> np.ndarray:
    if bits is not None:  # torch writes this argument only where a bit is set
        raise CheckpointError(
            "holds a lazily conjugated or negated tensor; save tensor.resolve_conj().resolve_neg()"
        )
    if type(size) is not tuple or type(stride) is not tuple:
        raise CheckpointError("has a tensor whose sizes or strides are not a tuple")
    return view(storage.data, dtype, size, stride, offset)


def _parameter(data: Any, _requires_grad: Any, _hooks: Any) -> np.ndarray:
    if not isinstance(data, np.ndarray):
        raise CheckpointError(f"has a parameter on {repr_short(data)} instead of a tensor")
    return data


def _size(sizes: Any) -> tuple[int, ...]:
    if type(sizes) is not tuple or any(type(size) is not int for size in sizes):
        raise CheckpointError("has a torch.Size that is not made of integers")
    return sizes


def _device(kind: Any, index: Any = None) -> str:
    """Give the device the text that torch prints for it, e.g. `cuda:0`."""
    # The bound on the name keeps one long string from being copied by many short calls.
    if type(kind) is not str or len(kind) > 64 or type(index) not in (int, type(None)):
        raise CheckpointError("has a torch.device that is not a name and a number")
    return kind if index is None else f"{kind}:{index}"


def _ordered_dict() -> dict[Any, Any]:
    """Give a plain dict: it keeps the order too, compares equal, and has no attributes to set."""
    return {}


def _counter(counts: Any) -> Counter[Any]:
    if type(counts) is not dict:
        raise CheckpointError("has a Counter that does not come from a dict")
    return Counter(counts)


def _constructors(functions: Mapping[str, Callable[..., Any]]) -> dict[str, Constructor]:
    return {name: Constructor(name, function) for name, function in functions.items()}


_DTYPES = {f"torch.{name}": row.numpy for name, row in BY_TORCH.items()}

_GLOBALS: Mapping[str, Any] = {
    **_constructors(
        {
            "collections.OrderedDict": _ordered_dict,
            "collections.Counter": _counter,
            "torch._utils._rebuild_tensor_v2": _tensor,
            "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
            "torch._utils._rebuild_parameter": _parameter,
            "torch.Size": _size,
            "torch.device": _device,
        }
    ),
    **{f"torch.{name}": StorageType(row.numpy) for name, row in BY_STORAGE.items()},
    "torch.storage.UntypedStorage": StorageType(np.dtype(np.uint8)),
    **{name: name for name in _DTYPES},
}
