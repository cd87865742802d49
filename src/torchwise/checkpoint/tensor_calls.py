"""The calls by which torch makes tensors again, of every kind."""

from typing import Any

import numpy as np

from torchwise.checkpoint.collect import ArrayReference
from torchwise.checkpoint.dtypes import element_type
from torchwise.checkpoint.pickle_writer import Call, Persistent
from torchwise.checkpoint.records import Name
from torchwise.checkpoint.tensors import MetaTensor, QuantizedTensor, SparseTensor
from torchwise.checkpoint.views import row_major_strides

_QUANTIZED = {"uint8": "QUInt8Storage", "int8": "QInt8Storage", "int32": "QInt32Storage"}


class TensorCalls:
    """Calls for the tensors of one file.

    Args:
        arrays: its storages, of which tensors have references.
    """

    def __init__(self, arrays: list[np.ndarray]) -> None:
        self._arrays = arrays

    def call(self, tensor: Any) -> Call:
        """Return the call that makes a tensor."""
        if type(tensor) is SparseTensor:
            return _sparse(tensor)
        if type(tensor) is QuantizedTensor:
            return self._quantized(tensor)
        if type(tensor) is MetaTensor:
            return _meta(tensor)
        assert type(tensor) is ArrayReference, "collect lets no other tensor through"
        return self._dense(tensor)

    def _dense(self, reference: ArrayReference) -> Call:
        row = element_type(self._arrays[reference.position].dtype)
        assert row is not None, "collect lets no other dtype through"
        if row.storage:
            placed = self._placed(reference, Name("torch", row.storage), ())
            return Call(_rebuild("tensor_v2"), placed)
        placed = self._placed(reference, Name("torch.storage", "UntypedStorage"), ())
        return Call(_rebuild("tensor_v3"), (*placed, Name("torch", row.torch)))

    def _placed(
        self, reference: ArrayReference, kind: Name, more: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """Return a storage, a view of all of it, more arguments, and no gradient and no hooks."""
        array = self._arrays[reference.position]
        step = array.itemsize if kind.qualname == "UntypedStorage" else 1
        key = str(reference.position)
        storage = Persistent(("storage", kind, key, "cpu", array.size * step))
        strides = row_major_strides(array.shape)
        hooks = Call(Name("collections", "OrderedDict"), ())
        return (storage, 0, array.shape, strides, *more, False, hooks)

    def _quantized(self, tensor: QuantizedTensor) -> Call:
        reference: Any = tensor.values
        kind = Name("torch", _QUANTIZED[self._arrays[reference.position].dtype.name])
        scheme = Name("torch", tensor.scheme)
        axis = () if tensor.axis is None else (tensor.axis,)
        how = (scheme, tensor.scale, tensor.zero_point, *axis)
        return Call(_rebuild("qtensor"), self._placed(reference, kind, (how,)))


def _sparse(tensor: SparseTensor) -> Call:
    layout = Call(Name("torch.serialization", "_get_layout"), (f"torch.{tensor.layout}",))
    size = Call(Name("torch", "Size"), (tensor.shape,))
    if type(tensor.indices) is tuple:
        return Call(_rebuild("sparse_tensor"), (layout, (*tensor.indices, tensor.values, size)))
    parts = (tensor.indices, tensor.values, size, tensor.is_coalesced)
    return Call(_rebuild("sparse_tensor"), (layout, parts))


def _meta(tensor: MetaTensor) -> Call:
    row = element_type(tensor.dtype)
    assert row is not None, "collect lets no other dtype through"
    strides = row_major_strides(tensor.shape)
    dtype = Name("torch", row.torch)
    return Call(_rebuild("meta_tensor_no_storage"), (dtype, tensor.shape, strides, False))


def _rebuild(name: str) -> Name:
    return Name("torch._utils", f"_rebuild_{name}")
