"""Tensors that an index distributes over several files, as transformers writes them."""

import os
from collections.abc import Callable
from typing import Any

from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.folders.texts import read_json

SUFFIX = ".index.json"


def read_shards(path: str | os.PathLike[str], read_file: Callable[[str], Any]) -> dict[str, Any]:
    """Read the tensors of all files that an index names, in the index's order.

    Args:
        path: of the index, such as `model.safetensors.index.json`. The files lie beside it.
        read_file: reads one of them.

    Raises:
        CheckpointError: it is no index, or does not agree with the files.
    """
    index = read_json(path)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(type(file) is str for file in places.values()):
        raise CheckpointError(
            f"{os.fspath(path)}: is no index of shards: it has no 'weight_map' from names to files"
        )
    folder = os.path.dirname(os.fspath(path))
    shards: dict[str, dict[str, Any]] = {}
    for file in dict.fromkeys(places.values()):
        if file in ("", ".", "..") or "/" in file or "\\" in file or "\0" in file:
            raise CheckpointError(
                f"{os.fspath(path)}: names {repr_short(file)}, which is not a file beside it"
            )
        shard = read_file(os.path.join(folder, file))
        if not isinstance(shard, dict):
            raise CheckpointError(f"{os.path.join(folder, file)}: is no shard: it holds no names")
        shards[file] = shard
    _check(path, places, shards)
    return {name: shards[file][name] for name, file in places.items()}


def _check(
    path: str | os.PathLike[str], places: dict[str, str], shards: dict[str, dict[str, Any]]
) -> None:
    """Refuse an index that is not of these files: half of a model is worse than none."""
    for name, file in places.items():
        if name not in shards[file]:
            raise CheckpointError(
                f"{os.fspath(path)}: {repr_short(name)} is not in {repr_short(file)}; the index "
                "is of other files"
            )
    for file, shard in shards.items():
        for name in shard:
            if places.get(name) != file:
                raise CheckpointError(
                    f"{os.fspath(path)}: {repr_short(file)} has {repr_short(name)}, which the "
                    "index does not say; the index is of other files"
                )
