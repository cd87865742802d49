"""Names of Python that stand for plain data, and of numpy: numbers and arrays."""

import math
from collections import Counter
from typing import Any

import numpy as np

from torchwise.checkpoint.constructors import Finisher, constructors, split
from torchwise.checkpoint.dtypes import BY_TORCH
from torchwise.checkpoint.errors import CheckpointError
from torchwise.checkpoint.limits import MAX_DIMENSIONS
from torchwise.checkpoint.pickle_keys import Keys
from torchwise.checkpoint.records import Name, Record

_NUMPY_TYPES = {
    row.numpy.str[1:]: row.numpy
    for row in BY_TORCH.values()
    if row.numpy.newbyteorder("=").isbuiltin == 1  # those of numpy itself
}


def _ordered_dict() -> dict[Any, Any]:
    """Give a plain dict: it keeps the order too, compares equal, and has no attributes to set."""
    return {}


def _counter(counts: Any) -> Counter[Any]:
    if type(counts) is not dict:
        raise CheckpointError("has a Counter that does not come from a dict")
    return Counter(counts)


def _encoded(text: Any, encoding: Any) -> bytes:
    """Give bytes, which protocol 2 writes as text."""
    if type(text) is not str or encoding != "latin1":
        raise CheckpointError("has bytes that are not written as text")
    try:
        return text.encode("latin1")
    except UnicodeEncodeError:
        raise CheckpointError("has bytes beyond 255") from None


def _bytes() -> bytes:
    return b""


def _bytearray(data: Any = b"", encoding: Any = None) -> bytearray:
    data = data if encoding is None else _encoded(data, str(encoding).replace("-", ""))
    if type(data) is not bytes:
        raise CheckpointError("has a bytearray that is not made of bytes")
    return bytearray(data)


def _set(items: Any) -> set[Any]:
    if type(items) is not list:
        raise CheckpointError("has a set that does not come from a list")
    result: set[Any] = set()
    keys = Keys()
    for item in items:
        if not keys.allows(result, item):
            raise CheckpointError("has a set of other things than strings, numbers and tuples")
        result.add(item)
    return result


def _complex(real: Any, imaginary: Any) -> complex:
    if type(real) is not float or type(imaginary) is not float:
        raise CheckpointError("has a complex number that is not made of two floats")
    return complex(real, imaginary)


def _numpy_type(record: Any) -> np.dtype | None:
    """Return the type that a record of `numpy.dtype` describes, if it is one of numbers."""
    if type(record) is not Record or record.name != "numpy.dtype" or not record.arguments:
        return None
    code, state = record.arguments[0], record.state
    order = state[1] if type(state) is tuple and len(state) > 1 else "|"
    if type(code) is not str or code not in _NUMPY_TYPES or order not in ("<", ">", "|", "="):
        return None
    return _NUMPY_TYPES[code].newbyteorder(order)


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


def _named(name: str) -> tuple[str, Name]:
    return name, Name(*split(name))


PLAIN_GLOBALS = {
    **constructors(
        {
            "collections.OrderedDict": _ordered_dict,
            "collections.Counter": _counter,
            "_codecs.encode": _encoded,
            "builtins.bytes": _bytes,
            "builtins.bytearray": _bytearray,
            "builtins.set": _set,
            "builtins.complex": _complex,
        }
    ),
    **dict(_named(name) for name in ("numpy.dtype", "numpy.ndarray")),
    **{
        f"{module}.{name}": Finisher(module, name, finish)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name, finish in (("scalar", _scalar), ("_reconstruct", _array))
    },
}
