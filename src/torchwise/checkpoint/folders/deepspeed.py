"""Reading folders of DeepSpeed without it: ZeRO's parts of all processes become whole tensors."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.folders.deepspeed_files import find_files, folder_of_step
from torchwise.checkpoint.folders.deepspeed_model import Model, read_model
from torchwise.checkpoint.folders.deepspeed_partitions import (
    Partition,
    partition_by_parameter,
    partition_of_group,
)
from torchwise.checkpoint.folders.deepspeed_shards import Shard, read_shard, same
from torchwise.checkpoint.naming import errors_naming
from torchwise.checkpoint.tree import check_tree


def read_deepspeed(
    folder: str | os.PathLike[str],
    read_file: Callable[[str], Any],
    mmap: bool = False,
    records: bool = False,
) -> dict[str, Any]:
    """Read a checkpoint of DeepSpeed, of ZeRO stage 0, 1, 2 or 3.

    Args:
        folder: with the files of all processes, or the one around it, with a file `latest`.
        read_file: reads a file with the model.
        mmap: as in `load`, for the files with the optimizer.
        records: as in `load`.

    Returns:
        `model`, by name, with the fp32 weights that the optimizer steps, and what it does not step
        as it was saved; `master_weights`, those fp32 weights alone; `optimizer`, torch's dict with
        names in the place of numbers; and what else was saved, such as `lr_scheduler` and
        `global_steps`. Without ZeRO, `model` and `optimizer` are as they were saved.

    Raises:
        CheckpointError: files are missing or damaged, do not belong together, or do not say how
            they are to be put together.
    """
    inner = folder_of_step(folder)
    with errors_naming(inner):
        files = find_files(inner)
    paths = [os.path.join(inner, file) for file in files.models]
    model = read_model(paths, read_file)
    shards = [
        read_shard(os.path.join(inner, file), mmap, len(files.optimizers))
        for file in files.optimizers
    ]
    with errors_naming(inner):
        if not shards:
            found = {"model": model.whole(), "optimizer": model.undivided()}
        else:
            partitions = _partitions(model, shards)
            weights = _weights(partitions, shards)
            optimizer = _optimizer(partitions, shards)
            found = {
                "model": model.whole(weights),
                "optimizer": optimizer,
                "master_weights": weights,
            }
        taken = found.keys() & model.others.keys()
        if taken:
            raise CheckpointError(
                f"has {repr_short(min(taken))} among the values that were saved beside the model; "
                "load the files one by one"
            )
        return check_tree({**found, **model.others}, records=records)


def _partitions(model: Model, shards: list[Shard]) -> list[Partition]:
    """Find the parameters of all groups in the parts."""
    first, shapes = shards[0], model.shapes
    for rank, shard in enumerate(shards):
        alike = len(shard.weights) == len(shapes) and shard.paddings == first.paddings
        if not alike or not same(shard.groups, first.groups):
            raise CheckpointError(
                f"has other groups of parameters from process {rank} than from process 0, or than "
                "its model; the files are not of one checkpoint"
            )
    if any(shard.by_parameter != model.divided for shard in shards):
        raise CheckpointError("has a model and an optimizer of two stages of ZeRO; copy it again")
    partitions: list[Partition] = []
    paddings = first.paddings or [[0] * len(group) for group in shapes]
    if [*map(len, paddings)] != [*map(len, shapes)]:
        raise CheckpointError("has paddings of other parameters than the model's")
    for index, group in enumerate(shapes):
        sizes = [shard.weights[index].size for shard in shards]
        if first.by_parameter:
            partitions.append(partition_by_parameter(group, sizes))
        else:
            partitions.append(partition_of_group(group, sizes, paddings[index]))
    return partitions


def _weights(partitions: list[Partition], shards: list[Shard]) -> dict[str, np.ndarray]:
    weights: dict[str, np.ndarray] = {}
    for index, partition in enumerate(partitions):
        weights |= partition.joined([shard.weights[index] for shard in shards], "weights")
    return weights


def _optimizer(partitions: list[Partition], shards: list[Shard]) -> dict[str, Any]:
    """Make torch's dict, as if the optimizer had stepped the parameters themselves."""
    state: dict[str, dict[str, Any]] = {}
    for index, partition in enumerate(partitions):
        of_group = _state(partition, [shard.states[index] for shard in shards])
        state |= {name: values for name, values in of_group.items() if values}
    groups: list[dict[str, Any]] = []
    for group in shards[0].groups:
        names = [name for index in group["params"] for name in partitions[index].places]
        groups.append({**group, "params": names})
    return {"state": state, "param_groups": groups}


def _state(partition: Partition, parts: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Divide the states of a group's flat tensor among its parameters."""
    state: dict[str, dict[str, Any]] = {name: {} for name in partition.places}
    if any(part.keys() != parts[0].keys() for part in parts):
        raise CheckpointError("has other states of the optimizer from each process")
    for key in parts[0]:
        values = [part[key] for part in parts]
        if all(isinstance(value, np.ndarray) and value.ndim for value in values):
            for name, whole in partition.joined(values, key).items():
                state[name][key] = whole
        elif isinstance(values[0], _NUMBERS) and all(same(x, values[0]) for x in values):
            for name in state:
                # Copies: in torch, a step that parameters share would be counted once for each.
                state[name][key] = _copied(values[0])
        else:
            raise CheckpointError(
                f"has a state {repr_short(key)} of the optimizer that is no part of a tensor, and "
                "not the same in all processes; load the files one by one, with records=True"
            )
    return state


_NUMBERS = (int, float, type(None), str, np.ndarray)


def _copied(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    copy = value.copy()
    copy.flags.writeable = False
    return copy
