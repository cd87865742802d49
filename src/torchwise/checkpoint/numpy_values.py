"""Numbers and arrays of numpy, as pickles describe them."""

import math
from typing import Any

import numpy as np

from torchwise.checkpoint.constructors import Finisher
from torchwise.checkpoint.dtypes import BY_TORCH
from torchwise.checkpoint.errors import CheckpointError
from torchwise.checkpoint.limits import MAX_DIMENSIONS
from torchwise.checkpoint.records import Name, Record

_TYPES = {
    row.numpy.str[1:]: row.numpy
    for row in BY_TORCH.values()
    if np.dtype(row.numpy.type).isbuiltin == 1  # those of numpy itself
}
_DTYPE, _NDARRAY = Name("numpy", "dtype"), Name("numpy", "ndarray")
_MODULE = "numpy.core.multiarray"  # which all versions know; numpy 2 writes another one


def _numpy_type(record: Any) -> np.dtype | None:
    """Return the type that a record of `numpy.dtype` describes, if it is one of numbers."""
    if type(record) is not Record or record.name != "numpy.dtype" or not record.arguments:
        return None
    code, state = record.arguments[0], record.state
    order = state[1] if type(state) is tuple and len(state) > 1 else "|"
    if type(code) is not str or code not in _TYPES or order not in ("<", ">", "|", "="):
        return None
    return _TYPES[code].newbyteorder(order)


def _scalar(record: Record) -> Any:
    """Give a number of numpy: `scalar(dtype, bytes)`."""
    dtype = _numpy_type(record.arguments[0]) if len(record.arguments) == 2 else None
    if dtype is None:
        return None
    data = record.arguments[1]
    if type(data) is not bytes or len(data) != dtype.itemsize:
        raise CheckpointError("has a number of numpy whose bytes are too many or too few")
    return np.frombuffer(data, dtype)[0]


def _array(record: Record) -> Any:
    """Give an array of numpy from the state `(version, shape, dtype, by columns, bytes)`."""
    if type(record.state) is not tuple or len(record.state) != 5:
        return None
    _, shape, of, by_columns, data = record.state
    dtype = _numpy_type(of)
    if dtype is None:
        return None
    sizes = type(shape) is tuple and all(type(size) is int and size >= 0 for size in shape)
    if not sizes or len(shape) > MAX_DIMENSIONS or type(data) is not bytes:
        raise CheckpointError("has an array of numpy without a shape or without bytes")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise CheckpointError("has an array of numpy whose bytes are too many or too few")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if by_columns is True else "C")


def described(value: np.generic | np.ndarray) -> Record:
    """Return a record from which numpy makes a number or an array again."""
    order = "|" if value.dtype.itemsize == 1 else value.dtype.newbyteorder("<").str[0]
    state = (3, order, None, None, None, -1, -1, 0)
    dtype = Record(_DTYPE, (value.dtype.str[1:], False, True), state=state)
    data = value.astype(value.dtype.newbyteorder("<")).tobytes()
    if isinstance(value, np.generic):
        return Record(Name(_MODULE, "scalar"), (dtype, data))
    arguments = (_NDARRAY, (0,), b"b")
    whole = (1, value.shape, dtype, False, data)
    return Record(Name(_MODULE, "_reconstruct"), arguments, state=whole)


NUMPY_GLOBALS = {
    "numpy.dtype": _DTYPE,
    "numpy.ndarray": _NDARRAY,
    **{
        f"{module}.{name}": Finisher(module, name, finish)
        for module in (_MODULE, "numpy._core.multiarray")
        for name, finish in (("scalar", _scalar), ("_reconstruct", _array))
    },
}
