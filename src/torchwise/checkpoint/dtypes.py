"""One table of element types: what torch, safetensors and numpy call each of them."""

from typing import NamedTuple

import ml_dtypes
import numpy as np


class ElementType(NamedTuple):
    """Names of one element type.

    Attributes:
        torch: name under `torch`, e.g. `float32`.
        storage: legacy storage class that a pickle names, or None where torch pickles the dtype.
        safetensors: name in a safetensors header, or None where that format has none.
        numpy: the numpy dtype, little-endian.
    """

    torch: str
    storage: str | None
    safetensors: str | None
    numpy: np.dtype


def _row(torch: str, storage: str | None, safetensors: str | None, numpy: type) -> ElementType:
    return ElementType(torch, storage, safetensors, np.dtype(numpy).newbyteorder("<"))


ELEMENT_TYPES = (
    _row("float64", "DoubleStorage", "F64", np.float64),
    _row("float32", "FloatStorage", "F32", np.float32),
    _row("float16", "HalfStorage", "F16", np.float16),
    _row("bfloat16", "BFloat16Storage", "BF16", ml_dtypes.bfloat16),
    _row("float8_e4m3fn", None, "F8_E4M3", ml_dtypes.float8_e4m3fn),
    _row("float8_e4m3fnuz", None, "F8_E4M3FNUZ", ml_dtypes.float8_e4m3fnuz),
    _row("float8_e5m2", None, "F8_E5M2", ml_dtypes.float8_e5m2),
    _row("float8_e5m2fnuz", None, "F8_E5M2FNUZ", ml_dtypes.float8_e5m2fnuz),
    _row("float8_e8m0fnu", None, "F8_E8M0", ml_dtypes.float8_e8m0fnu),
    _row("complex128", "ComplexDoubleStorage", None, np.complex128),
    _row("complex64", "ComplexFloatStorage", "C64", np.complex64),
    _row("int64", "LongStorage", "I64", np.int64),
    _row("int32", "IntStorage", "I32", np.int32),
    _row("int16", "ShortStorage", "I16", np.int16),
    _row("int8", "CharStorage", "I8", np.int8),
    _row("uint64", None, "U64", np.uint64),
    _row("uint32", None, "U32", np.uint32),
    _row("uint16", None, "U16", np.uint16),
    _row("uint8", "ByteStorage", "U8", np.uint8),
    _row("bool", "BoolStorage", "BOOL", np.bool_),
)

BY_TORCH = {row.torch: row for row in ELEMENT_TYPES}
BY_STORAGE = {row.storage: row for row in ELEMENT_TYPES if row.storage}
BY_SAFETENSORS = {row.safetensors: row for row in ELEMENT_TYPES if row.safetensors}


def element_type(dtype: np.dtype) -> ElementType | None:
    """Row of a numpy dtype of either byte order, or None where torch has no such type."""
    row = BY_TORCH.get(dtype.name)
    return row if row and row.numpy == dtype.newbyteorder("<") else None
