"""Writing torch's zip checkpoints (`.pt`, `.pth`) without torch."""

import json
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

from torchwise.checkpoint.arrays import storage_bytes
from torchwise.checkpoint.collect import collect
from torchwise.checkpoint.formats import DEFAULT_METADATA, METADATA_MEMBER
from torchwise.checkpoint.pickle_writer import write_pickle
from torchwise.checkpoint.progress import pieces
from torchwise.checkpoint.tensor_calls import TensorCalls

_ALIGNMENT = 64
_LOCAL_HEADER_SIZE = 30
_ZIP64_EXTRA_SIZE = 20
_ZIP64_FROM = 2**30


def write_pt(file: BinaryIO, value: Any, metadata: Mapping[str, str] = {}) -> None:
    """Write a checkpoint that `torch.load(path, weights_only=True)` reads, with `mmap=True` too.

    A record is written as the object that it stands for: for a file with one, torch wants
    `weights_only=False` or a list of safe classes, as it did for the file that it comes from.

    The same value gives the same bytes.

    Args:
        file: where to write, seekable.
        value: see `collect`.
        metadata: strings for a member of the zip that torch does not read.
    """
    # The default is what a safetensors file gets in any case, and would be in every converted one.
    texts = {key: text for key, text in metadata.items() if DEFAULT_METADATA.get(key) != text}
    tree, arrays, _ = collect(value, of_torch=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, file, "data.pkl", write_pickle(tree, TensorCalls(arrays).call))
        _add(archive, file, ".format_version", b"1")
        _add(archive, file, ".storage_alignment", str(_ALIGNMENT).encode())
        _add(archive, file, "byteorder", b"little")
        for index, array in enumerate(arrays):
            _add(archive, file, f"data/{index}", storage_bytes(array))
        if texts:
            _add(archive, file, METADATA_MEMBER, json.dumps(texts).encode())
        _add(archive, file, "version", b"3\n")


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
