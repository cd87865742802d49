"""Files that are replaced whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of `path` once the block ends without an error.

    The bytes are on the disk before the name changes, and the name before this returns: a crash at
    any moment leaves the old file or the new one. A symbolic link is kept and its target replaced.

    Args:
        path: the file to create or replace.

    Yields:
        The temporary file, in the same folder, open for binary writing.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".torchwise-{secrets.token_hex(8)}.tmp")
    # Opened by hand and not by tempfile: the mode follows the umask like that of any other file.
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
    try:
        with open(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


_BINARY = getattr(os, "O_BINARY", 0)


def _sync_folder(folder: str) -> None:
    if os.name != "posix":  # other systems cannot open a folder, and order renames themselves
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
