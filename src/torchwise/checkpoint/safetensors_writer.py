"""Writing nested values as `.safetensors` files."""

import json
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from torchwise.checkpoint.arrays import storage_bytes
from torchwise.checkpoint.collect import collect
from torchwise.checkpoint.dtypes import element_type
from torchwise.checkpoint.errors import CheckpointError
from torchwise.checkpoint.formats import DEFAULT_METADATA, STRUCTURE_KEY
from torchwise.checkpoint.progress import pieces
from torchwise.checkpoint.safetensors_format import HEADER_LENGTH, MAX_HEADER
from torchwise.checkpoint.structure import check_size, encode_structure, tensor_names

_ALIGNMENT = 64


def write_safetensors(file: BinaryIO, value: Any, metadata: Mapping[str, str] = {}) -> None:
    """Write a value so that reading gives it back, and other readers find its tensors by name.

    The same value gives the same bytes.

    Args:
        file: where to write.
        value: see `collect`.
        metadata: strings that are kept beside the tensors; `format` is `pt` unless it is given.
    """
    tree, arrays, paths = collect(value)
    names = tensor_names(paths)
    # The format allows no gap between tensors: wide elements first keeps every one aligned.
    order = sorted(range(len(arrays)), key=lambda index: -arrays[index].dtype.alignment)
    texts = {**DEFAULT_METADATA, **metadata, STRUCTURE_KEY: encode_structure(tree, names)}
    header: dict[str, Any] = {"__metadata__": texts}
    end = 0
    for index in order:
        start, end = end, end + arrays[index].nbytes
        header[names[index]] = _entry(names[index], arrays[index], start, end)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False)
    check_size(text)
    encoded = text.encode()
    encoded += b" " * (-(HEADER_LENGTH.size + len(encoded)) % _ALIGNMENT)
    if len(encoded) > MAX_HEADER:
        raise CheckpointError("cannot be saved: safetensors limits names and values to 100 MB")
    file.write(HEADER_LENGTH.pack(len(encoded)) + encoded)
    for index in order:
        for piece in pieces(storage_bytes(arrays[index])):
            file.write(piece)


def _entry(name: str, array: np.ndarray, start: int, end: int) -> dict[str, Any]:
    row = element_type(array.dtype)
    if row is None or row.safetensors is None:
        raise TypeError(f"cannot save {name}: safetensors has no dtype {array.dtype}; use .pt")
    return {"dtype": row.safetensors, "shape": list(array.shape), "data_offsets": [start, end]}
