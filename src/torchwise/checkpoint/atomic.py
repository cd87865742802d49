"""Files that are replaced whole or not at all."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from torchwise.checkpoint.errors import CheckpointError
from torchwise.checkpoint.temporary import Temporary, remove_stale


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of `path` once the block ends without an error.

    The bytes are on the disk before the name changes, and the name before this returns: a crash at
    any moment leaves the old file or the new one. A symbolic link is kept and its target replaced.
    Permissions, owner and group are those of the old file. What an earlier process left that was
    killed while it wrote the same file is removed first.

    Args:
        path: the file to create or replace.

    Yields:
        The temporary file, in the same folder, open for binary writing.

    Raises:
        CheckpointError: for what is neither a file nor a link to one.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    old = _status(path, target)
    remove_stale(target)
    temporary = Temporary(target)
    try:
        # A file that others may not read is never readable for them under the other name.
        descriptor = temporary.open(0o666 if old is None else 0o600)
        with open(descriptor, "w+b") as file:
            yield file
            file.flush()
            if old is not None:
                _keep_access(descriptor, old)
            os.fsync(file.fileno())
        os.replace(temporary.path, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary.path)
        raise
    finally:
        temporary.release()
    _sync_folder(folder)


def _status(path: str | os.PathLike[str], target: str) -> os.stat_result | None:
    """Return the status of the file to replace; None if there is none yet."""
    try:
        status = os.lstat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(status.st_mode):  # a link is one that leads back to itself
        kind = "a symbolic link to no file" if stat.S_ISLNK(status.st_mode) else "not a file"
        raise CheckpointError(f"{os.fspath(path)}: is {kind}, and is not replaced")
    return status


def _keep_access(descriptor: int, old: os.stat_result) -> None:
    """Give a new file the owner, the group and the permissions of the old one, as far as possible.

    Where the group has to change, the new one gets no permissions of the old.
    """
    if os.name != "posix":
        return
    mode = stat.S_IMODE(old.st_mode) & 0o777
    new = os.fstat(descriptor)
    if new.st_gid != old.st_gid:
        try:
            os.fchown(descriptor, -1, old.st_gid)
        except OSError:
            mode &= ~0o070
    if new.st_uid != old.st_uid:
        with contextlib.suppress(OSError):
            os.fchown(descriptor, old.st_uid, -1)
    os.fchmod(descriptor, mode)


def _sync_folder(folder: str) -> None:
    if os.name != "posix":  # other systems cannot open a folder, and order renames themselves
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
