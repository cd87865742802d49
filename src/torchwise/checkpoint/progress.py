"""How far the work on a file has come, for whoever shows it."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

PIECE = 2**24
"""So many bytes are read or written at a time: a few thousandths of a second of work."""

_observer: ContextVar[Callable[[int], None] | None] = ContextVar("observer", default=None)


def advanced(count: int) -> None:
    """Tell the observer, if there is one, that so many bytes were read, written or looked at."""
    observer = _observer.get()
    if observer is not None:
        observer(count)


@contextlib.contextmanager
def observed(by: Callable[[int], None]) -> Iterator[None]:
    """Tell a function of the progress inside the block."""
    token = _observer.set(by)
    try:
        yield
    finally:
        _observer.reset(token)


def pieces(data: bytes | memoryview) -> Iterator[memoryview]:
    """Yield bytes in pieces, and tell the observer of each once the caller comes for the next."""
    view = memoryview(data)
    for start in range(0, len(view), PIECE):
        piece = view[start : start + PIECE]
        yield piece
        advanced(len(piece))
