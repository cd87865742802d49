"""The shape of a nested value as JSON, for a format that knows only named tensors.

Strings, integers, finite numbers, booleans, None and lists are themselves. All else is an object
with one key that says what it is: `{"dict": [[key, value], ...]}`, `{"tuple": [...]}`,
`{"counter": [...]}`, `{"set": [...]}`, `{"bytes": "hexadecimal"}`, `{"bytearray": ...}`,
`{"complex": [real, imaginary]}`, `{"float": "nan"}` and `{"tensor": "name"}`.
"""

import json
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from torchwise.checkpoint.collect import ArrayReference
from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.keys import Keys
from torchwise.checkpoint.limits import MAX_BRACKETS, MAX_INT_BITS


def tensor_names(paths: Sequence[tuple[Any, ...]]) -> list[str]:
    """Names such as `state.0.momentum_buffer`, one per path and all different."""
    names = []
    taken = {"__metadata__"}
    for path in paths:
        name = ".".join(map(str, path)) or "value"
        name = unique = name.encode("utf-8", "replace").decode()
        copies = 1
        while unique in taken:
            copies += 1
            unique = f"{name}~{copies}"
        taken.add(unique)
        names.append(unique)
    return names


def encode_structure(tree: Any, names: Sequence[str]) -> str:
    """Write a collected tree as JSON.

    Args:
        tree: from `collect`.
        names: name of each of its arrays.
    """
    return json.dumps(_encode(tree, names), allow_nan=False, separators=(",", ":"))


def _encode(tree: Any, names: Sequence[str]) -> Any:
    kind = type(tree)
    if kind is ArrayReference:
        return {"tensor": names[tree.position]}
    if kind is float and not math.isfinite(tree):
        return {"float": repr(tree)}
    if kind is list:
        return [_encode(item, names) for item in tree]
    if kind in (bytes, bytearray):
        return {kind.__name__: tree.hex()}
    if kind is complex:
        return {"complex": [_encode(part, names) for part in (tree.real, tree.imag)]}
    if kind is set:
        return {"set": sorted((_encode(item, names) for item in tree), key=json.dumps)}
    if kind is tuple:
        return {"tuple": [_encode(item, names) for item in tree]}
    if kind in (dict, OrderedDict, Counter):
        items = [[_encode(key, names), _encode(item, names)] for key, item in tree.items()]
        return {"counter" if kind is Counter else "dict": items}
    return tree


def decode_structure(text: str, tensors: Mapping[str, np.ndarray]) -> Any:
    """Rebuild the value that `encode_structure` wrote.

    Args:
        text: JSON.
        tensors: all arrays of the file by name; each has to occur in the value.
    """
    used: set[str] = set()

    def tensor(name: Any) -> np.ndarray:
        if type(name) is not str or name not in tensors:
            raise CheckpointError(f"has a structure with an unknown tensor {repr_short(name)}")
        used.add(name)
        return tensors[name]

    value = _decode(parse_json(text), tensor)
    if len(used) != len(tensors):
        raise CheckpointError("has tensors that its structure does not mention")
    return value


def _decode(node: Any, tensor: Callable[[Any], np.ndarray]) -> Any:
    if isinstance(node, list):
        return [_decode(item, tensor) for item in node]
    if not isinstance(node, dict):
        return node
    match node:
        case {"tensor": name} if len(node) == 1:
            return tensor(name)
        case {"float": "nan" | "inf" | "-inf" as text} if len(node) == 1:
            return float(text)
        case {"tuple": list(items)} if len(node) == 1:
            return tuple(_decode(item, tensor) for item in items)
        case {"bytes": str(digits)} if len(node) == 1:
            return _from_hexadecimal(digits)
        case {"bytearray": str(digits)} if len(node) == 1:
            return bytearray(_from_hexadecimal(digits))
        case {"complex": [real, imaginary]} if len(node) == 1:
            parts = [_decode(part, tensor) for part in (real, imaginary)]
            if [type(part) for part in parts] == [float, float]:
                return complex(*parts)
        case {"set": list(items)} if len(node) == 1:
            return _decode_set(items, tensor)
        case {"dict": list(items)} if len(node) == 1:
            return _decode_items(items, tensor)
        case {"counter": list(items)} if len(node) == 1:
            return Counter(_decode_items(items, tensor))
    raise CheckpointError(f"has a structure with the unknown part {repr_short(node)}")


def _decode_items(items: list[Any], tensor: Callable[[Any], np.ndarray]) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    keys = Keys()
    for item in items:
        if not isinstance(item, list) or len(item) != 2:
            raise CheckpointError(f"has a structure with the item {repr_short(item)}")
        key, value = (_decode(part, tensor) for part in item)
        if not keys.allows(result, key) or key in result:
            raise CheckpointError(f"has a structure with the key {repr_short(key)}")
        result[key] = value
    return result


def _decode_set(items: list[Any], tensor: Callable[[Any], np.ndarray]) -> set[Any]:
    pairs = [[item, None] for item in items]
    return set(_decode_items(pairs, tensor))


def _from_hexadecimal(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise CheckpointError("has a structure with bytes that are no digits") from None


def check_size(text: str) -> None:
    """Refuse JSON of which a few bytes would stand for more values than a checkpoint may have."""
    if text.count("[") + text.count("{") > MAX_BRACKETS:
        raise CheckpointError(f"has more than {MAX_BRACKETS} objects and arrays in its header")


def parse_json(text: str) -> Any:
    """Parse JSON that comes from a file: strict, with each key of an object once."""
    check_size(text)
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_no_constant,
            parse_int=_bounded_integer,
        )
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"has broken JSON in its header: {error}") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise CheckpointError("has a JSON object with one key twice")
    return result


def _no_constant(text: str) -> float:
    raise CheckpointError(f"has {text} in its header, which is not JSON")


def _bounded_integer(digits: str) -> int:
    if len(digits) > MAX_INT_BITS // 3:
        raise CheckpointError("has an integer that is too long")
    return int(digits)
