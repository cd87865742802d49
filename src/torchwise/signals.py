"""What a command does when a signal asks it to end; light, since it comes before all else."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

_STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")  # by name: not every system has all


class Stopped(BaseException):
    """A signal asked the process to end: what is on the way up cleans up behind itself.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number


def code_of(number: int) -> int:
    """Return the exit code after a signal, as shells have it."""
    return 128 + number


def stopped_by(number: int) -> str:
    """Return what is said on standard error."""
    return f"torchwise: stopped by {signal.Signals(number).name}"


def end_at_signals() -> None:
    """End the process at once when a signal comes, from now on; ignored signals stay ignored.

    An exception would do for Python's own code. But it may come up while a module is imported, or
    in a callback where Python prints and forgets it.
    """

    def end(number: int, _: object) -> None:
        erase = "\r\x1b[K" if os.isatty(2) else ""  # of a line that says how far the work has come
        with contextlib.suppress(OSError):
            os.write(2, f"{erase}{stopped_by(number)}\n".encode())
        os._exit(code_of(number))

    for one in _stopping():
        signal.signal(one, end)


@contextlib.contextmanager
def raising_at_signals() -> Iterator[None]:
    """Raise `Stopped` in the block when a signal comes, once: for blocks that have to clean up."""
    before: dict = {}
    seen: list[int] = []

    def stop(number: int, _: object) -> None:
        for one in before:
            signal.signal(one, signal.SIG_IGN)  # a second one must not disturb the cleaning up
        seen.append(number)
        raise Stopped(number)

    if threading.current_thread() is threading.main_thread():  # others may not set handlers
        before = {one: signal.getsignal(one) for one in _stopping()}
    try:
        for one in before:
            signal.signal(one, stop)
        yield
        if seen:  # the exception came up where Python forgets it
            raise Stopped(seen[0])
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _stopping() -> list[signal.Signals]:
    found = [getattr(signal, name) for name in _STOPPING if hasattr(signal, name)]
    return [one for one in found if signal.getsignal(one) is not signal.SIG_IGN]
