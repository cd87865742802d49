"""Which files of a folder of DeepSpeed belong together; other kinds are refused by their names."""

import itertools
import os
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.naming import errors_naming

_LATEST = "latest"
_MAX_TAG = 1000
_MODEL = re.compile(r"(?:zero_pp_rank_(\d+)_)?mp_rank_(\d+)_model_states\.pt")
_OPTIMIZER = re.compile(r"(?:(?:bf|fp)16_)?zero_pp_rank_(\d+)_mp_rank_(\d+)_?optim_states\.pt")
_STATES = re.compile(r".*(model|optim)_states\.pt")
EXPERTS = "has experts (MoE), which are divided among other processes than the rest"
PARALLEL = (
    "is of a run with tensor or pipeline parallelism, and does not say how it divides tensors"
)
REMEDY = "load the files one by one, with records=True, or save the whole model from DeepSpeed"
# What the files do not say how to put together: a pattern of names, what it is, what to do.
_OTHERS = (
    (r"(.*_)?expert_.*|expp_rank_.*", EXPERTS, REMEDY),
    (r"layer_.*_states\.pt", "is of a pipeline, whose layers are in files of their own", REMEDY),
    (
        r"offloaded_tensors",
        "has an optimizer that was offloaded to NVMe, whose files hold bytes without names",
        "save it without that, or load the model alone from what DeepSpeed's zero_to_fp32.py makes",
    ),
    (
        r"zero|latest_universal",
        "is a universal checkpoint of DeepSpeed",
        "load the folder that it was made from",
    ),
)


class Files(NamedTuple):
    """The files of a checkpoint, in the order of the processes that wrote them.

    Attributes:
        models: one, or one of each process where weights are divided (stage 3).
        optimizers: one of each process; none where nothing is divided (stage 0).
    """

    models: list[str]
    optimizers: list[str]


def is_deepspeed(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is one of DeepSpeed, or one around it, with a file `latest`."""
    names = os.listdir(folder)
    if any(map(_STATES.fullmatch, names)) or "latest_universal" in names:
        return True
    if not os.path.isfile(os.path.join(folder, _LATEST)):
        return False
    inner = [os.path.join(folder, name) for name in names]
    folders = (os.listdir(path) for path in inner if os.path.isdir(path))
    return "zero_to_fp32.py" in names or any(_STATES.fullmatch(x) for xs in folders for x in xs)


def folder_of_step(folder: str | os.PathLike[str]) -> str:
    """Return the folder with the files: itself, or the one that `latest` names.

    Raises:
        CheckpointError: `latest` names no folder beside it.
    """
    names = os.listdir(folder)
    if any(map(_STATES.fullmatch, names)) or _LATEST not in names:
        return os.fspath(folder)
    path = os.path.join(folder, _LATEST)
    with errors_naming(path), open(path, encoding="utf-8", errors="replace") as file:
        tag = file.read(_MAX_TAG).strip()
        if tag in ("", ".", "..") or "/" in tag or "\\" in tag or "\0" in tag:
            raise CheckpointError(f"names {repr_short(tag)}, which is not a folder beside it")
        inner = os.path.join(folder, tag)
        if not os.path.isdir(inner):
            raise CheckpointError(f"names {repr_short(tag)}, which is not in the folder")
        return inner


def find_files(folder: str) -> Files:
    """Find the files of all processes.

    Raises:
        CheckpointError: one is missing, or they are of a kind that cannot be put together.
    """
    names = sorted(os.listdir(folder))
    for pattern, kind, remedy in _OTHERS:
        found = next((name for name in names if re.fullmatch(pattern, name)), None)
        if found is not None:
            raise CheckpointError(f"{kind} (it has {repr_short(found)}); {remedy}")
    models, optimizers = _by_rank(_MODEL, names), _by_rank(_OPTIMIZER, names)
    whole = models.pop(None, None)
    if whole is not None and models:
        raise CheckpointError(
            f"has {repr_short(whole)} and {repr_short(next(iter(models.values())))}, which are of "
            "two checkpoints; remove the older files"
        )
    last = max((rank for rank in (*models, *optimizers) if rank is not None), default=0)
    _refuse_gaps(optimizers, last, "optim_states")
    if whole is not None:
        return Files([whole], [optimizers[rank] for rank in sorted(optimizers)])
    _refuse_gaps(models, last, "model_states")
    if not models or not optimizers:
        raise CheckpointError(
            f"has no {'optim' if models else 'model'}_states.pt of any process; copy all files of "
            "the folder"
        )
    ranks = range(last + 1)
    return Files([models[rank] for rank in ranks], [optimizers[rank] for rank in ranks])


def _by_rank(pattern: re.Pattern[str], names: Iterable[str]) -> dict[Any, str]:
    """Return the files of a kind, by the number of the process; None in a name without one."""
    found: dict[Any, str] = {}
    for name in names:
        if match := pattern.fullmatch(name):
            rank = None if match[1] is None else int(match[1])
            if int(match[2]):
                raise CheckpointError(f"{PARALLEL} (it has {repr_short(name)}); {REMEDY}")
            if rank in found:
                raise CheckpointError(
                    f"has {repr_short(found[rank])} and {repr_short(name)}, which are of two "
                    "checkpoints; remove the older files"
                )
            found[rank] = name
    return found


def _refuse_gaps(files: dict[Any, str], last: int, kind: str) -> None:
    missing = next(rank for rank in itertools.count() if rank not in files)
    if files and missing <= last:
        raise CheckpointError(
            f"has no {kind}.pt of process {missing}, of {last + 1}; copy all files of the folder"
        )
