"""A step happens whole or not at all, whatever is raised and whoever reads in the meantime.

A step donates the old arrays, so that between its start and its commit nobody has the values. The
results go into a list in one call of C code, in which Python does not look at signals; whoever
comes next, the step itself or any reader after an exception, puts them in their places.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Work(Protocol):
    """What a transaction does.

    Attributes:
        results: empty until `run` is done.
    """

    results: list[Any]

    def run(self, _: None) -> Any:
        """Compute the results."""

    def commit(self) -> None:
        """Put the results in their places; harmless if it was done before, in full or in part."""


_lock = threading.RLock()
_unfinished: list[Work] = []


def execute(work: Work) -> None:
    """Run a piece of work and commit it."""
    with _lock:
        _finish(drop=True)
        _unfinished.append(work)
        try:
            work.results.extend(map(work.run, (None,)))
        finally:
            _finish(drop=True)


@contextmanager
def settled() -> Iterator[None]:
    """Keep other threads from stepping, with every step that has happened in its place."""
    with _lock:
        _finish(drop=False)
        yield


def settle() -> None:
    """Put every step that has happened in its place."""
    if _unfinished:
        with _lock:
            _finish(drop=False)


def _finish(drop: bool) -> None:
    """Commit what has results; drop what has none, unless it is running and reads by itself."""
    while _unfinished:
        work = _unfinished[-1]
        if work.results:
            work.commit()
        elif not drop:
            return
        _unfinished.pop()
