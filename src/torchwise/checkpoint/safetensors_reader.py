"""Reading `.safetensors` files into nested values."""

import math
import mmap
from typing import Any

import numpy as np

from torchwise.checkpoint.dtypes import BY_SAFETENSORS, ElementType
from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.limits import MAX_DIMENSIONS
from torchwise.checkpoint.mapped import aligned, view
from torchwise.checkpoint.safetensors_format import HEADER_LENGTH, MAX_HEADER, STRUCTURE_KEY
from torchwise.checkpoint.structure import decode_structure, parse_json
from torchwise.checkpoint.tree import check_tree

_FIELDS = {"dtype", "shape", "data_offsets"}


def looks_like_safetensors(content: mmap.mmap) -> bool:
    """Whether a file starts with a length that fits and the brace of a JSON object."""
    start = HEADER_LENGTH.size
    if len(content) <= start or content[start : start + 1] != b"{":
        return False
    return HEADER_LENGTH.unpack(content[:start])[0] <= len(content) - start


def read_safetensors(content: mmap.mmap) -> Any:
    """Read a safetensors file.

    Args:
        content: the mapped file.

    Returns:
        What was saved, where `save` wrote the file; else a dict of its tensors by name. Arrays are
        read-only views of `content`.
    """
    header, data = _split(content)
    metadata = header.pop("__metadata__", {})
    if type(metadata) is not dict or any(type(text) is not str for text in metadata.values()):
        raise CheckpointError("has __metadata__ that is not a JSON object of strings")
    ranges = {name: _tensor_range(name, entry) for name, entry in header.items()}
    _check_coverage(list(ranges.values()), len(data))
    tensors = {
        name: _tensor(data[start:stop], _row(name, header[name]).numpy, header[name]["shape"])
        for name, (start, stop) in ranges.items()
    }
    if STRUCTURE_KEY not in metadata:
        return tensors
    return check_tree(decode_structure(metadata[STRUCTURE_KEY], tensors))


def _tensor(data: np.ndarray, dtype: np.dtype, shape: list[int]) -> np.ndarray:
    return view(aligned(data, dtype.alignment), dtype, shape)


def _split(content: mmap.mmap) -> tuple[dict[str, Any], np.ndarray]:
    start = HEADER_LENGTH.size
    if len(content) < start:
        raise CheckpointError("is not a safetensors file: it is shorter than its first field")
    (length,) = HEADER_LENGTH.unpack(content[:start])
    if length > min(MAX_HEADER, len(content) - start):
        raise CheckpointError(f"is truncated or no safetensors file: its header has {length} bytes")
    text = content[start : start + length]
    if not text.startswith(b"{"):
        raise CheckpointError("is not a safetensors file: its header is not a JSON object")
    try:
        header = parse_json(text.decode("utf-8"))
    except UnicodeDecodeError:
        raise CheckpointError("has a header that is not UTF-8") from None
    return header, np.frombuffer(content, np.uint8)[start + length :]


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
