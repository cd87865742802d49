"""Writing the part of pickle protocol 2 that torch reads with `weights_only=True`."""

import pickle  # the codes of the opcodes; nothing of this module is ever called
import struct
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function, by module and name with a space between."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """What the reader is to make by calling a named function."""

    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Persistent:
    """What the reader finds outside of the pickle."""

    identity: tuple[Any, ...]


def write_pickle(value: Any) -> bytes:
    """Pickle plain values, and the three markers above."""
    return pickle.PROTO + b"\x02" + _encode(value) + pickle.STOP


def _encode(value: Any) -> bytes:
    return _ENCODERS[type(value)](value)


def _join(values: Any) -> bytes:
    return pickle.MARK + b"".join(map(_encode, values))


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


def _encode_items(value: dict[Any, Any]) -> bytes:
    return _join(part for item in value.items() for part in item) + pickle.SETITEMS


def _encode_name(value: Name) -> bytes:
    return pickle.GLOBAL + value.name.replace(" ", "\n").encode() + b"\n"


def _encode_call(value: Call) -> bytes:
    return _encode(Name(value.name)) + _encode(value.arguments) + pickle.REDUCE


_ENCODERS = {
    type(None): lambda value: pickle.NONE,
    bool: lambda value: pickle.NEWTRUE if value else pickle.NEWFALSE,
    int: _encode_int,
    float: lambda value: pickle.BINFLOAT + struct.pack(">d", value),
    str: _encode_str,
    tuple: lambda value: _join(value) + pickle.TUPLE,
    list: lambda value: pickle.EMPTY_LIST + _join(value) + pickle.APPENDS,
    dict: lambda value: pickle.EMPTY_DICT + _encode_items(value),
    OrderedDict: lambda value: _encode(Call("collections OrderedDict", ())) + _encode_items(value),
    Counter: lambda value: _encode(Call("collections Counter", (dict(value),))),
    Name: _encode_name,
    Call: _encode_call,
    Persistent: lambda value: _encode(value.identity) + pickle.BINPERSID,
}
