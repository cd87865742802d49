"""Temporary files that tell whether their writer is alive, and whose place they are to take."""

import contextlib
import hashlib
import os
import secrets

try:
    import fcntl
except ImportError:  # not a POSIX system: nothing can be locked, and nothing is removed
    fcntl = None

_BINARY = getattr(os, "O_BINARY", 0)


class Temporary:
    """A file beside the target, locked as long as its writer lives.

    Args:
        target: the file whose place it is to take.

    Attributes:
        path: of the temporary file.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._lock: int | None = None
        self.path = _new_path(target)

    def open(self, mode: int) -> int:
        """Create the file, and return a descriptor that the caller closes.

        Opened by hand and not by tempfile: the mode follows the umask like that of any other file.
        """
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, mode)
            if fcntl is None:
                return descriptor
            # A lock belongs to the open file, so that it outlives the descriptor of the caller.
            self._lock = os.dup(descriptor)
            with contextlib.suppress(OSError):  # some file systems have no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return descriptor
            # Another process took it for a stale one before it was locked.
            os.close(descriptor)
            self.release()
            self.path = _new_path(self._target)

    def release(self) -> None:
        """Give the lock back, once the file has its name or is gone."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_stale(target: str) -> None:
    """Remove the temporary files of this target whose writers are gone."""
    if fcntl is None:
        return
    folder, prefix = os.path.dirname(target), _prefix(target)
    with contextlib.suppress(OSError):  # a folder that cannot be listed, or is not there
        for name in os.listdir(folder):
            if name.startswith(prefix):
                _remove_if_stale(os.path.join(folder, name))


def _remove_if_stale(path: str) -> None:
    assert fcntl is not None
    with contextlib.suppress(OSError):  # locked by its writer, gone by now, or somebody else's
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        finally:
            os.close(descriptor)


def _prefix(target: str) -> str:
    """Begin names that tell the target, and are short even if the target's is as long as can be."""
    name = os.fsencode(os.path.basename(target))
    return f".torchwise-{hashlib.sha256(name).hexdigest()[:16]}-"


def _new_path(target: str) -> str:
    name = f"{_prefix(target)}{secrets.token_hex(8)}.tmp"
    return os.path.join(os.path.dirname(target), name)
