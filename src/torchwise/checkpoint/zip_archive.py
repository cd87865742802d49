"""Members of a zip file, as torch writes it: stored, never compressed."""

import struct
import zipfile
import zlib

import numpy as np

from torchwise.checkpoint.content import Content
from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.explanations import zip_kind

MAGIC = b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<4s2xHH16xHH")  # magic, flags, method, length of name and of extra
_UTF8_NAME = 0x800
_ENCRYPTED = 0x1
# What the standard library's parser raises on directories that are not what they claim to be.
_BROKEN = (
    zipfile.BadZipFile,
    struct.error,
    ValueError,
    LookupError,
    OverflowError,
    OSError,
    NotImplementedError,
)


class ZipArchive:
    """The members of one top folder, by their name inside it.

    Args:
        content: of the file.
    """

    def __init__(self, content: Content) -> None:
        self._content = content
        try:
            entries = zipfile.ZipFile(content.file).infolist()
        except _BROKEN as error:
            raise CheckpointError(f"is a damaged zip file: {error}") from None
        names = [entry.orig_filename for entry in entries]
        kind = zip_kind(names)  # first: what is in other archives is compressed, in part
        if kind:
            raise CheckpointError(kind)
        if min((entry.header_offset for entry in entries), default=0) != 0:
            raise CheckpointError("has bytes before its first zip member")
        if len(set(names)) != len(names):
            raise CheckpointError("has two zip members of one name")
        self._entries = {entry.orig_filename.partition("/")[2]: entry for entry in entries}
        self._ranges = {name: self._locate(entry) for name, entry in self._entries.items()}
        self._check_overlap()

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def size(self, name: str) -> int:
        """How many bytes a member has."""
        start, stop = self._range(name)
        return stop - start

    def storage(self, name: str) -> np.ndarray:
        """Bytes of a member; their checksum is compared where all of them are read anyway."""
        data = self._content.storage(*self._range(name))
        if self._content.in_memory:
            self._check(name, zlib.crc32(data.data))
        return data

    def read(self, name: str) -> bytes:
        """Copy of a small member, after comparing its checksum."""
        data = self._content.read(*self._range(name))
        self._check(name, zlib.crc32(data))
        return data

    def _range(self, name: str) -> tuple[int, int]:
        if name not in self._entries:
            raise CheckpointError(f"has no zip member {repr_short(name)}")
        return self._ranges[name]

    def _check(self, name: str, checksum: int) -> None:
        # torch records 0 where `set_crc32_options(False)` has turned the checksums off.
        if self._entries[name].CRC not in (0, checksum):
            raise CheckpointError(f"is damaged: the checksum of {repr_short(name)[1:-1]} differs")

    def _locate(self, entry: zipfile.ZipInfo) -> tuple[int, int]:
        """Where the bytes of a member lie: its two headers must tell the same story."""
        name, start = entry.orig_filename, entry.header_offset
        header = self._content.read(start, start + _LOCAL_HEADER.size)
        if start < 0 or len(header) < _LOCAL_HEADER.size:
            raise CheckpointError(f"is truncated: zip member {repr_short(name)} is outside")
        magic, flags, method, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        start += _LOCAL_HEADER.size
        local_name = self._content.read(start, start + name_length)
        encoding = "utf-8" if flags & _UTF8_NAME else "cp437"
        if magic != MAGIC or local_name != name.encode(encoding, "replace"):
            raise CheckpointError(f"is a damaged zip file: {repr_short(name)} is not in its place")
        if (method, entry.compress_type) != (zipfile.ZIP_STORED,) * 2 or flags & _ENCRYPTED:
            raise CheckpointError(f"has a compressed or encrypted member {repr_short(name)}")
        start += name_length + extra_length
        stop = start + entry.file_size
        if entry.file_size != entry.compress_size or stop > self._content.size:
            raise CheckpointError(f"is truncated: zip member {repr_short(name)} is cut off")
        return start, stop

    def _check_overlap(self) -> None:
        end = 0
        for start, stop in sorted(self._ranges.values()):
            if start < end:
                raise CheckpointError("has zip members that overlap")
            end = stop
