"""Which kind of checkpoint several files are."""

import os
from collections.abc import Callable
from typing import Any

from torchwise.checkpoint.folders.dcp import read_dcp
from torchwise.checkpoint.folders.dcp_metadata import METADATA
from torchwise.checkpoint.folders.deepspeed import read_deepspeed
from torchwise.checkpoint.folders.deepspeed_files import is_deepspeed
from torchwise.checkpoint.folders.parts import read_beside, read_parts
from torchwise.checkpoint.folders.shards import SUFFIX, read_shards


def is_several(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder, or an index of shards."""
    return os.path.isdir(path) or os.path.basename(os.fspath(path)).endswith(SUFFIX)


def read_several(
    path: str | os.PathLike[str],
    read_file: Callable[[str], Any],
    mmap: bool = False,
    records: bool = False,
) -> Any:
    """Read a checkpoint that is several files; errors name the one that is at fault.

    Args:
        path: of a folder, or of an index of shards.
        read_file: reads one file.
        mmap: as in `load`, for files that are no checkpoints by themselves.
        records: the same.
    """
    if not os.path.isdir(path):
        return read_shards(path, read_file)
    if os.path.isfile(os.path.join(path, METADATA)):
        return read_dcp(path, mmap, records)
    if is_deepspeed(path):
        return read_beside(path, read_deepspeed(path, read_file, mmap, records), read_file)
    return read_parts(path, read_file)
