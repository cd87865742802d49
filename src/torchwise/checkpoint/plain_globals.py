"""Names of Python that stand for plain data."""

from collections import Counter
from typing import Any

from torchwise.checkpoint.constructors import constructors
from torchwise.checkpoint.errors import CheckpointError
from torchwise.checkpoint.keys import Keys


def _ordered_dict(items: Any = ()) -> dict[Any, Any]:
    """Give a plain dict: it keeps the order too, compares equal, and has no attributes to set.

    Python 2 passes the items to the call; Python 3 sets them afterwards.
    """
    result: dict[Any, Any] = {}
    keys = Keys()
    for pair in items if type(items) in (list, tuple) else [items]:
        if type(pair) not in (list, tuple) or len(pair) != 2 or not keys.allows(result, pair[0]):
            raise CheckpointError("has an OrderedDict that is not made of keys and values")
        result[pair[0]] = pair[1]
    return result


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
}
