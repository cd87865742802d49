"""A line on the terminal that says how far a long work has come."""

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator

from torchwise.checkpoint.progress import observed

_SILENT = 1.0  # seconds: what is done sooner needs no line
_PAUSE = 0.1  # seconds between two looks of it
_BAR = 30  # characters


class Line:
    """The line, which appears after a second of work.

    Args:
        text: what is being done.
        total: the work, in bytes.
    """

    def __init__(self, text: str, total: int) -> None:
        self._text, self._total, self._done = text, total, 0
        self._next = time.monotonic() + _SILENT
        self._visible = False

    def advance(self, count: int) -> None:
        """Note that so many bytes more are done, and draw the line if it is time."""
        self._done += count
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PAUSE
            self._draw()

    def erase(self) -> None:
        """Make room on the terminal for something else; the line comes back by itself."""
        if self._visible:
            self._visible = False
            _write("\r\x1b[K")

    def _draw(self) -> None:
        # The total is an estimate where the size of a file stands for what is in it.
        share = min(self._done / max(self._total, 1), 0.99)
        bar = ("#" * int(share * _BAR)).ljust(_BAR)
        end = f"  [{bar}] {share:4.0%}"
        room = max(shutil.get_terminal_size().columns - len(end) - 1, 0)
        self._visible = True
        _write(f"\r\x1b[K{self._text[-room:] if room else ''}{end}")


@contextlib.contextmanager
def progress(text: str, total: int) -> Iterator[Line]:
    """Show the progress of the block on standard error, if that is a terminal.

    Args:
        text: what is being done.
        total: the work, in bytes.
    """
    line = Line(text, total)
    if not (sys.stderr and sys.stderr.isatty()):
        yield line
        return
    try:
        with observed(line.advance):
            yield line
    finally:
        line.erase()


def _write(text: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()
