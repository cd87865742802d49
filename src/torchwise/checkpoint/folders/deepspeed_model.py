"""What DeepSpeed has saved of the model, and what it says of the optimizer's flat arrays."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.folders.deepspeed_files import EXPERTS, PARALLEL, REMEDY
from torchwise.checkpoint.folders.deepspeed_partitions import partition_by_parameter
from torchwise.checkpoint.folders.deepspeed_shards import same
from torchwise.checkpoint.limits import MAX_DIMENSIONS
from torchwise.checkpoint.naming import errors_naming

# These describe the rest, and are no longer true of it once it is put together.
_DESCRIPTIONS = (
    *("module", "optimizer", "buffer_names", "param_shapes", "shared_params"),
    *("frozen_param_shapes", "frozen_param_fragments"),
)


def read_model(paths: list[str], read_file: Callable[[str], Any]) -> "Model":
    """Read the model's file, or those of all processes where the weights are divided.

    Raises:
        CheckpointError: a file is none of DeepSpeed's, or they differ in what they say.
    """
    saved = [read_file(path) for path in paths]
    for path, one in zip(paths, saved):
        with errors_naming(path):
            _check(one)
            if not same(one.get("param_shapes"), saved[0].get("param_shapes")):
                raise CheckpointError("has other parameters than the file of process 0")
    return Model(saved, os.path.basename(paths[0]).startswith("zero_pp_rank_"))


def _check(saved: Any) -> None:
    module = saved.get("module") if isinstance(saved, dict) else None
    if not isinstance(module, dict) or not all(type(name) is str for name in module):
        raise CheckpointError(
            "has no 'module' with tensors by name, as pipelines have none; load the files one by "
            "one"
        )
    degrees = [saved.get("mp_world_size"), *_dict(saved, "checkpoint_parallel_dimensions").values()]
    if any(type(degree) is int and degree > 1 for degree in degrees):
        raise CheckpointError(f"{PARALLEL}; {REMEDY}")
    if saved.get("num_experts") is not None:
        raise CheckpointError(f"{EXPERTS}; {REMEDY}")


class Model:
    """The model's tensors, and the order and shapes of the parameters that are stepped.

    Args:
        saved: the dicts of all files.
        divided: whether each process has a part of the weights (stage 3).

    Attributes:
        divided: the same.
        shapes: of the parameters of each group, by name, in their order.
        others: what was saved beside the model.
    """

    def __init__(self, saved: list[dict[str, Any]], divided: bool) -> None:
        self._saved, self._first, self.divided = saved, saved[0], divided
        self.others = {k: v for k, v in self._first.items() if k not in _DESCRIPTIONS}

    @property
    def shapes(self) -> list[dict[str, tuple[int, ...]]]:
        """Of the parameters that the optimizer steps, by name, for each group."""
        groups = self._first.get("param_shapes")
        if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
            raise CheckpointError(
                "does not say which parameters are in the flat arrays of its optimizer (no "
                "'param_shapes' in the model's file); save it with a newer DeepSpeed"
            )
        names = [name for group in groups for name in group]
        if len({*names}) < len(names):
            raise CheckpointError("has one parameter in two groups of its optimizer")
        return [{name: _shape(name, shape) for name, shape in group.items()} for group in groups]

    def undivided(self) -> Any:
        """Return the optimizer's dict of a run without ZeRO."""
        if self._first.get("param_shapes") is not None:
            raise CheckpointError(
                "has no optim_states.pt of any process; copy all files of the folder"
            )
        return self._first.get("optimizer")

    def whole(self, weights: Mapping[str, np.ndarray] = {}) -> dict[str, Any]:
        """Return all tensors in the model's order, those that are stepped from the optimizer.

        Args:
            weights: that the optimizer has, by name.

        Raises:
            CheckpointError: they are not all of the model, or other ones than it was saved with.
        """
        module = self._first["module"]
        known = {**self._kept(), **weights}
        for name, source in _dict(self._first, "shared_params").items():
            if type(source) is not str or source not in known or name in weights:
                raise CheckpointError(f"does not say what {repr_short(name)} is shared with")
            known[name] = known[source]
        for name in (*weights, *module):
            if name not in known or name not in module:
                raise CheckpointError(
                    f"does not say what {repr_short(name)} is; load the files one by one"
                )
        for name, copy in module.items():
            if known[name] is not copy and not self.divided:
                _compare(name, copy, known[name])
        return {name: known[name] for name in module}

    def _kept(self) -> dict[str, Any]:
        """Return what the optimizer does not step: all that is not divided, and frozen weights."""
        module = self._first["module"]
        if not self.divided:
            return module
        buffers = self._first.get("buffer_names")
        names = buffers if isinstance(buffers, list) else []
        kept = {name: module[name] for name in names if type(name) is str and name in module}
        for name, shape in _dict(self._first, "frozen_param_shapes").items():
            found = [_dict(one, "frozen_param_fragments").get(name) for one in self._saved]
            fragments = [fragment for fragment in found if isinstance(fragment, np.ndarray)]
            if len(fragments) < len(found):
                raise CheckpointError(f"has no part of {repr_short(name)} from some process")
            if not all(fragment.flags.c_contiguous for fragment in fragments):
                raise CheckpointError(f"has a part of {repr_short(name)} that repeats its elements")
            group = {name: _shape(name, shape)}
            partition = partition_by_parameter(group, [fragment.size for fragment in fragments])
            kept |= partition.joined(fragments, name)
        return kept


def _compare(name: str, copy: Any, weights: Any) -> None:
    """Refuse weights that are not those of which the model has a copy, in 16 bits mostly.

    Equal shapes in another order would fit all sizes, as old versions of DeepSpeed wrote them with
    `round_robin_gradients`. Optimizers may round at random, so that one unit in the last place is
    allowed.
    """
    both = isinstance(copy, np.ndarray) and isinstance(weights, np.ndarray)
    if not both or copy.shape != weights.shape:
        raise CheckpointError(f"has {repr_short(name)} of two shapes; copy it again")
    if not {copy.dtype.name, weights.dtype.name} <= _FLOATS:
        raise CheckpointError(
            f"has {repr_short(name)} of {copy.dtype.name}; load the files by themselves"
        )
    with np.errstate(all="ignore"):
        if np.array_equal(copy, weights.astype(copy.dtype), equal_nan=True):
            return
        exact, rounded = weights.astype(np.float64), copy.astype(np.float64)
        limits = ml_dtypes.finfo(copy.dtype)
        near = np.abs(exact - rounded) <= float(limits.eps) * np.abs(exact) + float(limits.tiny)
    if not near.all():
        raise CheckpointError(
            f"has other fp32 weights of {repr_short(name)} than its model, and so does not say "
            "which ones are whose; load the files one by one, with records=True"
        )


_FLOATS = {"float16", "bfloat16", "float32", "float64"}


def _dict(saved: dict[str, Any], key: str) -> dict[Any, Any]:
    value = saved.get(key)
    if not isinstance(value, dict | type(None)):
        raise CheckpointError(f"has {repr_short(value)} as {key!r}, which is a dict in DeepSpeed")
    return value or {}


def _shape(name: Any, shape: Any) -> tuple[int, ...]:
    if (
        type(name) is not str
        or not isinstance(shape, tuple)
        or len(shape) > MAX_DIMENSIONS
        or any(type(x) is not int or not 0 <= x < 2**63 for x in shape)
    ):
        raise CheckpointError(
            f"has {repr_short(shape)} where the shape of {repr_short(name)} should be"
        )
    return shape
