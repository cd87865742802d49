"""Which kind of checkpoint several files are."""

import os
from collections.abc import Callable
from typing import Any

from torchwise.checkpoint.folders.parts import read_parts
from torchwise.checkpoint.folders.shards import SUFFIX, read_shards


def is_several(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder, or an index of shards."""
    return os.path.isdir(path) or os.path.basename(os.fspath(path)).endswith(SUFFIX)


def read_several(path: str | os.PathLike[str], read_file: Callable[[str], Any]) -> Any:
    """Read a checkpoint that is several files; errors name the one that is at fault.

    Args:
        path: of a folder, or of an index of shards.
        read_file: reads one file.
    """
    return (read_parts if os.path.isdir(path) else read_shards)(path, read_file)
