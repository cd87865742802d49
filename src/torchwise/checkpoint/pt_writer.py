"""Writing torch's zip checkpoints (`.pt`, `.pth`) without torch."""

import struct
import zipfile
from collections import Counter, OrderedDict
from typing import Any, BinaryIO

import numpy as np

from torchwise.checkpoint.arrays import storage_bytes
from torchwise.checkpoint.collect import ArrayReference, collect
from torchwise.checkpoint.dtypes import element_type
from torchwise.checkpoint.pickle_writer import Call, Name, Persistent, write_pickle
from torchwise.checkpoint.progress import pieces
from torchwise.checkpoint.views import row_major_strides

_ALIGNMENT = 64
_LOCAL_HEADER_SIZE = 30
_ZIP64_EXTRA_SIZE = 20
_ZIP64_FROM = 2**30


def write_pt(file: BinaryIO, value: Any) -> None:
    """Write a checkpoint that `torch.load(path, weights_only=True)` reads, with `mmap=True` too.

    The same value gives the same bytes.

    Args:
        file: where to write, seekable.
        value: see `collect`.
    """
    tree, arrays, _ = collect(value)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, file, "data.pkl", write_pickle(_with_tensors(tree, arrays)))
        _add(archive, file, ".format_version", b"1")
        _add(archive, file, ".storage_alignment", str(_ALIGNMENT).encode())
        _add(archive, file, "byteorder", b"little")
        for index, array in enumerate(arrays):
            _add(archive, file, f"data/{index}", storage_bytes(array))
        _add(archive, file, "version", b"3\n")


def _with_tensors(tree: Any, arrays: list[np.ndarray]) -> Any:
    """Put the calls that rebuild tensors in the place of the references."""
    if type(tree) is ArrayReference:
        return _tensor(tree.position, arrays[tree.position])
    if type(tree) in (dict, OrderedDict, Counter):
        return type(tree)({key: _with_tensors(item, arrays) for key, item in tree.items()})
    if type(tree) in (list, tuple):
        return type(tree)([_with_tensors(item, arrays) for item in tree])
    return tree


def _tensor(index: int, array: np.ndarray) -> Call:
    row = element_type(array.dtype)
    assert row is not None, "collect lets no other dtype through"
    step = 1 if row.storage else array.itemsize
    storage_type = Name(f"torch {row.storage}" if row.storage else "torch.storage UntypedStorage")
    storage = Persistent(("storage", storage_type, str(index), "cpu", array.size * step))
    hooks = Call("collections OrderedDict", ())
    placed = (storage, 0, array.shape, row_major_strides(array.shape), False, hooks)
    if row.storage:
        return Call("torch._utils _rebuild_tensor_v2", placed)
    return Call("torch._utils _rebuild_tensor_v3", (*placed, Name(f"torch {row.torch}")))


def _add(archive: zipfile.ZipFile, file: BinaryIO, name: str, data: bytes | memoryview) -> None:
    """Add a member whose bytes start at a multiple of 64, so that they can be used mapped."""
    entry = zipfile.ZipInfo(f"archive/{name}")
    entry.file_size = len(data)
    large = len(data) > _ZIP64_FROM
    start = file.tell() + _LOCAL_HEADER_SIZE + len(entry.filename) + large * _ZIP64_EXTRA_SIZE + 4
    padding = -start % _ALIGNMENT
    entry.extra = struct.pack("<2sH", b"FB", padding) + bytes(padding)
    with archive.open(entry, "w", force_zip64=large) as member:
        for piece in pieces(data):
            member.write(piece)
