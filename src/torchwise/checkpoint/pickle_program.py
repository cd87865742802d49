"""The bytes of a pickle, read from the front."""

import struct
from typing import Any, NoReturn

from torchwise.checkpoint.errors import CheckpointError


class TruncatedError(CheckpointError):
    """A pickle goes on behind its last byte."""


class Program:
    """A pickle and the place up to which it has been read.

    Args:
        data: the bytes; others may follow the pickle.
        name: what errors call it.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self._name = name
        self.position = 0

    def __len__(self) -> int:
        return len(self._data)

    def fail(self, what: str) -> NoReturn:
        """Refuse the pickle at this place."""
        raise CheckpointError(f"{self._name} {what}, at byte {self.position}")

    def take(self, count: int) -> bytes:
        """Read so many bytes."""
        start, self.position = self.position, self.position + count
        if self.position > len(self._data):
            raise TruncatedError(f"{self._name} ends in the middle of an instruction")
        return self._data[start : self.position]

    def number(self, layout: str) -> Any:
        """Read a number in a layout of `struct`."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def skip_frame(self) -> None:
        """Read the length of a frame, which only says how much may be read at once."""
        self.take(8)

    def sized(self, layout: str) -> bytes:
        """Read bytes behind their number."""
        return self.take(self.number(layout))

    def text(self, layout: str) -> str:
        """Read a string behind the number of its bytes."""
        try:
            return self.sized(layout).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            self.fail("has a string that is not UTF-8")

    def line(self) -> str:
        """Read up to the end of a line."""
        end = self._data.find(b"\n", self.position)
        if end < 0:
            raise TruncatedError(f"{self._name} ends in the middle of an instruction")
        line = self.take(end + 1 - self.position)[:-1]
        return line.decode("utf-8", "backslashreplace")
