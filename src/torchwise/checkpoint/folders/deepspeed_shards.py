"""What one process has saved of its part of the optimizer, in a file of DeepSpeed."""

from typing import Any, NamedTuple

import numpy as np

from torchwise.checkpoint.content import opened
from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.folders.deepspeed_files import EXPERTS, REMEDY
from torchwise.checkpoint.naming import errors_naming
from torchwise.checkpoint.pt_reader import read_pt
from torchwise.checkpoint.records import Record

_BY_GROUP, _BY_PARAMETER = "single_partition_of_fp32_groups", "fp32_flat_groups"


class Shard(NamedTuple):
    """The part of one process.

    Attributes:
        by_parameter: whether each parameter is divided (stage 3), or each group (stages 1 and 2).
        weights: the fp32 weights of each group.
        states: of the optimizer, of each group.
        groups: the optimizer's groups, with what is not divided.
        paddings: elements behind each parameter that belong to none, if the file knows of them.
    """

    by_parameter: bool
    weights: list[np.ndarray]
    states: list[dict[str, Any]]
    groups: list[dict[str, Any]]
    paddings: list[list[int]] | None


def read_shard(path: str, mmap: bool, processes: int) -> Shard:
    """Read the file of one process; the classes of DeepSpeed inside are read as inert records.

    Args:
        path: of the file.
        mmap: as in `load`.
        processes: how many files there are.

    Raises:
        CheckpointError: it is damaged, of another kind, or of another number of processes.
    """
    with errors_naming(path), opened(path, mmap) as content:
        saved = read_pt(content, records=True)
        return _shard(saved, content.size, processes)


def _shard(saved: Any, size: int, processes: int) -> Shard:
    root = _checked(saved, dict).get("optimizer_state_dict")
    if not isinstance(root, dict) or (_BY_GROUP in root) == (_BY_PARAMETER in root):
        raise CheckpointError(
            "has neither DeepSpeed's fp32 weights of stages 1 and 2 nor those of stage 3; run the "
            "zero_to_fp32.py beside it"
        )
    by_parameter = _BY_PARAMETER in root
    _check_stage(root.get("zero_stage"), (3,) if by_parameter else (1, 2))
    _check_count(root.get("partition_count"), processes)
    if root.get("ds_zero_partition_groups") is not None:
        raise CheckpointError(f"{EXPERTS}; {REMEDY}")
    weights = _checked(root[_BY_PARAMETER if by_parameter else _BY_GROUP], list)
    inner = root.get("optimizer_state_dict" if by_parameter else "base_optimizer_state")
    if not isinstance(inner, dict) or not {"state", "param_groups"} <= inner.keys():
        raise CheckpointError(
            "has no optimizer's dict with 'state' and 'param_groups', as elastic checkpoints have "
            "none; save it without 'elastic_checkpoint'"
        )
    groups = [_checked(group, dict) for group in _checked(inner["param_groups"], list)]
    ids = [identity for group in groups for identity in _checked(group.get("params"), list)]
    if not same(ids, list(range(len(weights)))):
        raise CheckpointError(
            f"has {len(weights)} groups of weights, and an optimizer of {len(ids)}"
        )
    states = [_checked(_checked(inner["state"], dict).get(i, {}), dict) for i in ids]
    if len(inner["state"]) > len(ids):
        raise CheckpointError("has an optimizer with states of other parameters")
    arrays = [x for state in states for x in state.values() if isinstance(x, np.ndarray)]
    if sum(_checked(x, np.ndarray).nbytes for x in (*weights, *arrays)) > size:
        raise CheckpointError("has several tensors in the same bytes")
    return Shard(by_parameter, weights, states, groups, _paddings(root))


def _check_stage(stage: Any, allowed: tuple[int, ...]) -> None:
    """Compare the stage that the file says with what it holds; some optimizers say none."""
    if isinstance(stage, Record) and len(stage.arguments) == 1:
        stage = stage.arguments[0]
    if stage is not None and (type(stage) is not int or stage not in allowed):
        raise CheckpointError(f"says ZeRO stage {repr_short(stage)}, and has weights of {allowed}")


def _check_count(counts: Any, processes: int) -> None:
    counts = counts if isinstance(counts, list) else [counts]
    other = [count for count in counts or [None] if type(count) is not int or count != processes]
    if other:
        raise CheckpointError(
            f"is of {repr_short(other[0])} processes, and the folder has files of "
            f"{processes}; copy all files of the folder, and no older ones"
        )


def _paddings(root: dict[str, Any]) -> list[list[int]] | None:
    if root.get("param_alignment_paddings") is None:
        return None
    paddings = _checked(root["param_alignment_paddings"], list)
    for number in (number for group in paddings for number in _checked(group, list)):
        if type(number) is not int or not 0 <= number < 2**63:
            raise CheckpointError(f"has {repr_short(number)} where a padding should be")
    return paddings


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise CheckpointError(f"has {repr_short(value)} where DeepSpeed has a {kind.__name__}")
    return value


def same(one: Any, other: Any) -> bool:
    """Whether two values of files are equal, with the order of keys and the bits of arrays."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        described = (one.dtype, one.shape) == (other.dtype, other.shape)
        return described and one.tobytes() == other.tobytes()
    if type(one) is not type(other) or isinstance(one, np.ndarray):
        return False
    if isinstance(one, dict):
        return [*one] == [*other] and same([*one.values()], [*other.values()])
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other
