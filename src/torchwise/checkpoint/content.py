"""The bytes of a file: read into memory of their own, or mapped."""

import abc
import contextlib
import errno
import io
import mmap
import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from torchwise.checkpoint.errors import CheckpointError
from torchwise.checkpoint.progress import PIECE, advanced

_ALIGNMENT = 64  # what XLA wants, to use the memory of an array as it is
_ELEMENT_ALIGNMENT = 8  # of every type: numpy aligns complex128 like the floats inside it


class Content(abc.ABC):
    """What the readers of the formats see of a file.

    Args:
        file: opened for reading.
        size: how many bytes it has.

    Attributes:
        in_memory: whether `storage` reads each byte, so that looking at all of them costs little.
    """

    in_memory: bool

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size

    def read(self, start: int, stop: int) -> bytes:
        """Return a copy of bytes; of those that the file has, if it ends before `stop`."""
        start, stop = max(start, 0), min(stop, self.size)
        self.file.seek(min(start, stop))
        return self.file.read(max(stop - start, 0))

    @abc.abstractmethod
    def storage(self, start: int, stop: int, alignment: int = _ELEMENT_ALIGNMENT) -> np.ndarray:
        """Return bytes as a read-only array, aligned for its elements; see `in_memory`."""


class ReadContent(Content):
    """Storages are read, each straight into the memory that its arrays keep."""

    in_memory = True

    def storage(self, start: int, stop: int, alignment: int = _ALIGNMENT) -> np.ndarray:
        """Return bytes in memory of their own, aligned to 64 bytes."""
        size = stop - start
        owner = np.empty(size + _ALIGNMENT, np.uint8)
        offset = -_address(owner) % _ALIGNMENT
        storage = owner[offset : offset + size]
        self.file.seek(start)
        done = 0
        while done < size:
            count = self.file.readinto(storage[done : done + PIECE].data)  # type: ignore[attr-defined]
            if not count:
                raise CheckpointError("is truncated")
            done += count
            advanced(count)
        owner.flags.writeable = storage.flags.writeable = False
        return storage


class MappedContent(Content):
    """Storages are views of the mapped file: nothing is read until it is touched."""

    in_memory = False

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(file, size)
        # Python keeps a file descriptor for each mapping, unless it is told not to.
        untracked: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
        self._bytes = np.frombuffer(
            mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ, **untracked), np.uint8
        )

    def storage(self, start: int, stop: int, alignment: int = _ELEMENT_ALIGNMENT) -> np.ndarray:
        """Return a view; a copy where elements would not be aligned, as other writers leave it."""
        storage = self._bytes[start:stop]
        if _address(storage) % alignment:
            storage = storage.copy()
            storage.flags.writeable = False
        return storage


class Part(Content):
    """Bytes of a file that are a file of their own.

    Args:
        whole: of the file.
        start: of the bytes.
        stop: of the bytes.

    Raises:
        CheckpointError: the file ends before.
    """

    def __init__(self, whole: Content, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= whole.size:
            raise CheckpointError("is truncated")
        super().__init__(io.BufferedReader(_PartFile(whole.file, start, stop)), stop - start)
        self.in_memory = whole.in_memory
        self._whole, self._start = whole, start

    def storage(self, start: int, stop: int, alignment: int = _ELEMENT_ALIGNMENT) -> np.ndarray:
        """Return bytes as the whole file does."""
        return self._whole.storage(self._start + start, self._start + stop, alignment)


class _PartFile(io.RawIOBase):
    """A part of an open file, with a position of its own."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file, self._start, self._size = file, start, stop - start
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), max(self._size - self._position, 0))
        self._file.seek(self._start + self._position)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], mapped: bool) -> Iterator[Content]:
    """Open a regular file.

    Args:
        path: the file.
        mapped: whether to map it in place of reading it. The mapping lives as long as an array that
            views it.

    Raises:
        CheckpointError: the file is none, is empty, or was changed before the block ended. A file
            that was replaced was not changed: what was opened is still there.
    """
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise CheckpointError("is not a regular file")
    with open(path, "rb") as file:
        version = _version(file)
        size = version[0]
        if size == 0:
            raise CheckpointError("is empty")
        try:
            yield MappedContent(file, size) if mapped else ReadContent(file, size)
        except CheckpointError:
            _refuse_changed(file, version)
            raise
        _refuse_changed(file, version)


def _version(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _refuse_changed(file: BinaryIO, version: tuple[int, int]) -> None:
    if _version(file) != version:
        raise CheckpointError("was changed while it was being read; load it again")


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]
