"""Errors of reading, with the path in front that the user knows."""

import contextlib
import os
from collections.abc import Iterator

from torchwise.checkpoint.errors import CheckpointError


@contextlib.contextmanager
def errors_naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Put a path into the errors of a block that reads it.

    Raises:
        CheckpointError: as the block does, or where it nests too deeply or needs too much memory.
        OSError: as the block does.
    """
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error}") from None
    except RecursionError:
        raise CheckpointError(f"{os.fspath(path)}: nests too deeply") from None
    except MemoryError:
        raise CheckpointError(f"{os.fspath(path)}: needs more memory than there is") from None
    except OSError as error:
        raise naming(path, error) from error


def naming(path: str | os.PathLike[str], error: OSError) -> OSError:
    """Return the error with the name that the user knows, not that of a temporary file or none."""
    if error.errno is None:
        return error
    return OSError(error.errno, error.strerror, os.fspath(path))
