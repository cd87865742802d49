"""Writing pickles of protocol 2: what torch reads with `weights_only=True`, and records."""

import pickle  # the codes of the opcodes; nothing of this module is ever called
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torchwise.checkpoint.errors import CheckpointError
from torchwise.checkpoint.records import Name, Record


@dataclass(frozen=True, slots=True)
class Call:
    """What the reader is to make by calling a named function."""

    function: Name
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Persistent:
    """What the reader finds outside of the pickle."""

    identity: tuple[Any, ...]


def write_pickle(value: Any, call: Callable[[Any], Call]) -> bytes:
    """Pickle a value.

    Args:
        value: plain values, records and the two markers above.
        call: how the reader makes anything else, tensors that is.
    """
    return pickle.PROTO + b"\x02" + _Encoder(call).encode(value) + pickle.STOP


class _Encoder:
    """Encodes values; it remembers records, which may be in several places and in themselves."""

    def __init__(self, call: Callable[[Any], Call]) -> None:
        self._call = call
        self._memo: dict[int, int] = {}
        self._open: set[int] = set()

    def encode(self, value: Any) -> bytes:
        kind = type(value)
        if kind in _SCALARS:
            return _SCALARS[kind](value)
        if kind in _MADE_OF:
            return self.encode(_MADE_OF[kind](value))
        if kind is tuple:
            return self._join(value) + pickle.TUPLE
        if kind is list:
            return pickle.EMPTY_LIST + self._join(value) + pickle.APPENDS
        if kind is dict:
            return pickle.EMPTY_DICT + self._items(value)
        if kind is OrderedDict:
            return self.encode(Call(Name("collections", "OrderedDict"), ())) + self._items(value)
        if kind is Call:
            return self.encode(value.function) + self.encode(value.arguments) + pickle.REDUCE
        if kind is Persistent:
            return self.encode(value.identity) + pickle.BINPERSID
        return self._record(value) if kind is Record else self.encode(self._call(value))

    def _join(self, values: Iterable[Any]) -> bytes:
        return pickle.MARK + b"".join(map(self.encode, values))

    def _items(self, value: Mapping[Any, Any]) -> bytes:
        return self._join(part for item in value.items() for part in item) + pickle.SETITEMS

    def _record(self, record: Record) -> bytes:
        if id(record) in self._memo:
            return pickle.LONG_BINGET + struct.pack("<I", self._memo[id(record)])
        if id(record) in self._open:
            raise CheckpointError(f"cannot save {record!r}: it is an argument of itself")
        self._open.add(id(record))
        encoded = self._made(record)
        self._open.remove(id(record))
        self._memo[id(record)] = len(self._memo)
        encoded += pickle.LONG_BINPUT + struct.pack("<I", self._memo[id(record)])
        if record.items:
            encoded += self._join(record.items) + pickle.APPENDS
        if record.entries:
            encoded += self._items(record.entries)
        if record.state is not None and record.how != "viewed":
            encoded += self.encode(record.state) + pickle.BUILD
        return encoded

    def _made(self, record: Record) -> bytes:
        if record.how == "viewed":
            (tensor,) = record.arguments
            made = tensor if type(tensor) is Record else self._call(tensor)
            arguments = (made.function, record.function, made.arguments, record.state)
            return self.encode(Call(Name("torch._tensor", "_rebuild_from_type_v2"), arguments))
        ending = pickle.NEWOBJ if record.how == "new" else pickle.REDUCE
        return self.encode(record.function) + self.encode(record.arguments) + ending


def _encode_int(value: int) -> bytes:
    if 0 <= value < 256:
        return pickle.BININT1 + struct.pack("B", value)
    if -(2**31) <= value < 2**31:
        return pickle.BININT + struct.pack("<i", value)
    length = value.bit_length() // 8 + 1
    encoded = value.to_bytes(length, "little", signed=True)
    return pickle.LONG1 + struct.pack("B", len(encoded)) + encoded


def _encode_str(value: str) -> bytes:
    encoded = value.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _encode_name(value: Name) -> bytes:
    if "." in value.qualname:
        raise CheckpointError(f"cannot save {value}: protocol 2 names no class inside of another")
    return pickle.GLOBAL + f"{value.module}\n{value.qualname}\n".encode()


def _set(value: set[Any]) -> Call:
    """List the items in an order that does not depend on the process."""
    items = sorted(value, key=lambda item: (type(item).__name__, repr(item)))
    return Call(Name("builtins", "set"), (items,))


_SCALARS: Mapping[type, Callable[[Any], bytes]] = {
    type(None): lambda value: pickle.NONE,
    bool: lambda value: pickle.NEWTRUE if value else pickle.NEWFALSE,
    int: _encode_int,
    float: lambda value: pickle.BINFLOAT + struct.pack(">d", value),
    str: _encode_str,
    Name: _encode_name,
}
_MADE_OF: Mapping[type, Callable[[Any], Call]] = {
    Counter: lambda value: Call(Name("collections", "Counter"), (dict(value),)),
    bytes: lambda value: Call(Name("_codecs", "encode"), (value.decode("latin1"), "latin1")),
    bytearray: lambda value: Call(Name("builtins", "bytearray"), (bytes(value),)),
    complex: lambda value: Call(Name("builtins", "complex"), (value.real, value.imag)),
    set: _set,
}
