"""Reading `.safetensors` files into nested values."""

import math
from typing import Any

from torchwise.checkpoint.content import Content
from torchwise.checkpoint.dtypes import BY_SAFETENSORS, ElementType
from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.formats import STRUCTURE_KEY
from torchwise.checkpoint.limits import MAX_DIMENSIONS
from torchwise.checkpoint.safetensors_format import HEADER_LENGTH, MAX_HEADER
from torchwise.checkpoint.structure import decode_structure, parse_json
from torchwise.checkpoint.tree import check_tree
from torchwise.checkpoint.views import view

_FIELDS = {"dtype", "shape", "data_offsets"}


def looks_like_safetensors(content: Content) -> bool:
    """Whether a file starts with a length that fits and the brace of a JSON object."""
    start = HEADER_LENGTH.size
    if content.read(start, start + 1) != b"{":
        return False
    return HEADER_LENGTH.unpack(content.read(0, start))[0] <= content.size - start


def read_safetensors(content: Content) -> Any:
    """Read a safetensors file.

    Args:
        content: of the file.

    Returns:
        What was saved, where `save` wrote the file; else a dict of its tensors by name. Arrays are
        read-only views of the content's storages.
    """
    header, metadata, begin = _header(content)
    ranges = {name: _tensor_range(name, entry) for name, entry in header.items()}
    _check_coverage(list(ranges.values()), content.size - begin)
    tensors = {}
    for name, (start, stop) in ranges.items():
        dtype = _row(name, header[name]).numpy
        storage = content.storage(begin + start, begin + stop, dtype.alignment)
        tensors[name] = view(storage, dtype, header[name]["shape"])
    if STRUCTURE_KEY not in metadata:
        return tensors
    return check_tree(decode_structure(metadata[STRUCTURE_KEY], tensors))


def read_metadata(content: Content) -> dict[str, str]:
    """Read the strings that a safetensors file keeps beside its tensors."""
    _, metadata, _ = _header(content)
    return {key: text for key, text in metadata.items() if key != STRUCTURE_KEY}


def _header(content: Content) -> tuple[dict[str, Any], dict[str, str], int]:
    """Return what describes the tensors, the metadata, and where the elements begin."""
    start = HEADER_LENGTH.size
    if content.size < start:
        raise CheckpointError("is not a safetensors file: it is shorter than its first field")
    (length,) = HEADER_LENGTH.unpack(content.read(0, start))
    if length > min(MAX_HEADER, content.size - start):
        raise CheckpointError(f"is truncated or no safetensors file: its header has {length} bytes")
    text = content.read(start, start + length)
    if not text.startswith(b"{"):
        raise CheckpointError("is not a safetensors file: its header is not a JSON object")
    try:
        header = parse_json(text.decode("utf-8"))
    except UnicodeDecodeError:
        raise CheckpointError("has a header that is not UTF-8") from None
    metadata = header.pop("__metadata__", {})
    if type(metadata) is not dict or any(type(text) is not str for text in metadata.values()):
        raise CheckpointError("has __metadata__ that is not a JSON object of strings")
    return header, metadata, start + length


def _row(name: str, entry: Any) -> ElementType:
    kind = entry["dtype"]
    if type(kind) is not str or kind not in BY_SAFETENSORS:
        raise CheckpointError(
            f"has tensor {repr_short(name)} of dtype {repr_short(kind)}, which numpy cannot hold"
        )
    return BY_SAFETENSORS[kind]


def _tensor_range(name: str, entry: Any) -> tuple[int, int]:
    """Check one entry of the header; return where its bytes start and stop."""
    quoted = repr_short(name)
    if type(entry) is not dict or entry.keys() != _FIELDS:
        raise CheckpointError(f"describes tensor {quoted} by something else than {sorted(_FIELDS)}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    for values in (shape, offsets):
        if type(values) is not list or any(type(x) is not int or x < 0 for x in values):
            raise CheckpointError(f"has tensor {quoted} with shape or offsets that are no sizes")
    if len(offsets) != 2 or len(shape) > MAX_DIMENSIONS:
        raise CheckpointError(
            f"has tensor {quoted} with {len(offsets)} offsets, {len(shape)} sizes"
        )
    row = _row(name, entry)
    if math.prod(shape) * row.numpy.itemsize != offsets[1] - offsets[0]:
        raise CheckpointError(
            f"has tensor {quoted} of shape {repr_short(shape)} and dtype {entry['dtype']} "
            f"in {offsets[1] - offsets[0]} bytes"
        )
    return offsets[0], offsets[1]


def _check_coverage(ranges: list[tuple[int, int]], length: int) -> None:
    end = 0
    for start, stop in sorted(ranges):
        if start != end:
            raise CheckpointError(f"has tensors that overlap or leave a hole at byte {end}")
        end = stop
    if end != length:
        raise CheckpointError(f"has {length} bytes of tensors, where its header describes {end}")
