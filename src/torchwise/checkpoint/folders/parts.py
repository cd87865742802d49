"""Folders of HF's Trainer, of accelerate and of `save_pretrained`: a file for each part."""

import os
import re
from collections.abc import Callable, Iterable
from typing import Any

from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.folders.shards import SUFFIX, read_shards
from torchwise.checkpoint.folders.texts import read_json

# The part, and the names of its file; `#` is empty or accelerate's number, as in `optimizer_1`.
# Where a folder has several of them, as models on the hub do, the first is the one that is read.
_PARTS = (
    ("model#", ("model#.safetensors", "pytorch_model#.bin")),
    ("adapter_model", ("adapter_model.safetensors", "adapter_model.bin")),
    ("diffusion_pytorch_model", ("diffusion_pytorch_model.safetensors",)),
    ("optimizer#", ("optimizer#.pt", "optimizer#.bin")),
    ("scheduler#", ("scheduler#.pt", "scheduler#.bin")),
    ("scaler", ("scaler.pt",)),
    ("custom_checkpoint#", ("custom_checkpoint#.pkl",)),
    ("trainer_state", ("trainer_state.json",)),
    ("config", ("config.json",)),
)
_TEXTS = ("trainer_state", "config")


def parts(files: Iterable[str]) -> dict[str, str]:
    """Return which of the files in a folder hold parts of a checkpoint, by part."""
    files = sorted(files)
    found: dict[str, str] = {}
    for part, names in _PARTS:
        for pattern in map(_pattern, names):
            for file in files:
                if match := pattern.fullmatch(file):
                    found.setdefault(part.replace("#", match["number"] or ""), file)
    return found


def _pattern(name: str) -> re.Pattern[str]:
    """Match a file of this name, with a number or without one, or the index of its shards."""
    before, number, after = name.partition("#")
    middle = r"(?P<number>_\d+)?" if number else r"(?P<number>)"
    return re.compile(f"{re.escape(before)}{middle}{re.escape(after)}({re.escape(SUFFIX)})?")


def read_parts(folder: str | os.PathLike[str], read_file: Callable[[str], Any]) -> dict[str, Any]:
    """Read the parts of a checkpoint folder, by part: `model`, `optimizer`, `trainer_state`, ...

    Args:
        folder: with at least one part other than a configuration.
        read_file: reads one file.

    Raises:
        CheckpointError: the folder has no such part; the text says what may be meant.
    """
    names = os.listdir(folder)
    found = parts(names)
    if not found.keys() - {*_TEXTS}:
        raise CheckpointError(f"{os.fspath(folder)}: {_remedy(folder, names)}")
    return {
        part: _read(os.path.join(folder, file), part, read_file) for part, file in found.items()
    }


def read_beside(
    folder: str | os.PathLike[str], main: dict[str, Any], read_file: Callable[[str], Any]
) -> dict[str, Any]:
    """Add the parts of a folder that come without the model and the optimizer.

    Args:
        folder: as of HF's Trainer with DeepSpeed.
        main: what the folder has in another form than as parts.
        read_file: reads one file.
    """
    found = parts(os.listdir(folder))
    beside = {
        part: file for part, file in found.items() if part in ("scheduler", "scaler", *_TEXTS)
    }
    if taken := beside.keys() & main.keys():
        raise CheckpointError(
            f"{os.fspath(folder)}: has {repr_short(min(taken))} twice; load its folders one by one"
        )
    read = {
        part: _read(os.path.join(folder, file), part, read_file) for part, file in beside.items()
    }
    return {**main, **read}


def _read(path: str, part: str, read_file: Callable[[str], Any]) -> Any:
    if part in _TEXTS:
        return read_json(path)
    return read_shards(path, read_file) if path.endswith(SUFFIX) else read_file(path)


def _remedy(folder: str | os.PathLike[str], names: Iterable[str]) -> str:
    """Say what a folder is that is no checkpoint."""
    names = sorted(names)
    steps = [name for name in names if re.fullmatch(r"(checkpoint|global_step)[-_]?\d+", name)]
    if steps:
        steps.sort(key=lambda name: int(re.split(r"\D+", name)[-1]))
        return f"is a folder of checkpoints; the last is {repr_short(steps[-1])}, load that one"
    files = [name for name in names if os.path.isfile(os.path.join(folder, name))]
    listed = ", ".join(repr_short(name) for name in files[:5]) + (", ..." if files[5:] else "")
    has = f"it has {listed}; load one of them" if files else "it has no files"
    return f"is a folder without a model.safetensors, optimizer.pt or .metadata: {has}"
