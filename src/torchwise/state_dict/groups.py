"""A chain as a group of torch's state dict, and back, for every optimizer alike."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.optimizers.group_format import GroupFormat
from torchwise.optimizers.group_formats import GROUP_FORMATS
from torchwise.state_dict.leaves import any_array
from torchwise.transforms.chain import Chain, scalars_at
from torchwise.transforms.learning_rate import ScaleByLearningRate, ScaleBySchedule
from torchwise.transforms.transform import Transform

SUPPORTED = ", ".join(group_format.name for group_format in GROUP_FORMATS)


def format_of(group: Mapping[str, Any]) -> GroupFormat:
    """Return the optimizer that a saved group belongs to, by its keys.

    Raises:
        ValueError: if it is none that is known.
    """
    for group_format in GROUP_FORMATS:
        if all(key in group for key in group_format.required):
            return group_format
    keys = ", ".join(repr(key) for key in group if key not in ("params", "param_names"))
    raise ValueError(f"no optimizer has the keys {keys}; supported are {SUPPORTED}")


def name_of(group: Mapping[str, Any]) -> str:
    """Return what torch calls the optimizer of a saved group, or that it is unknown."""
    try:
        return format_of(group).name
    except ValueError:
        return "unknown optimizer"


def chain_of(group: Mapping[str, Any]) -> tuple[Chain, dict[str, Any]]:
    """Return the chain of a saved group, and the group without its parameters, completed.

    Raises:
        ValueError: as torch does, for invalid hyperparameters.
        TypeError: for values that are none.
    """
    group_format = format_of(group)
    options = {key: value for key, value in group.items() if key != "params"}
    options |= {key: value for key, value in group_format.added_later.items() if key not in options}
    numbers = {
        key: _number(value) for key, value in options.items() if key in group_format.defaults
    }
    group_format.check(**numbers)
    return group_format.build(**numbers), options


def group_of(
    chain: Chain, options: Mapping[str, Any] | None, step: int
) -> tuple[GroupFormat, dict[str, Any]]:
    """Return the optimizer that a chain is, and its group without parameters.

    Args:
        chain: a chain whose hyperparameters are known, not traced.
        options: the group that it was made from; what the chain does not contradict stays as it is.
        step: how many gradients the parameters have seen; a schedule's next rate is written.

    Raises:
        ValueError: if torch has no such optimizer.
    """
    transforms = tuple(_with_number(transform, step) for transform in chain.transforms)
    said: dict[str, Any] = {}
    for transform in transforms:
        said |= {**transform.implies, **_fields(transform)}
    for group_format in GROUP_FORMATS:
        group = dict(group_format.defaults if options is None else options)
        group |= {key: _number(v) for key, v in said.items() if _differs(group.get(key), v)}
        if said.keys() <= group_format.defaults.keys() <= group.keys():
            numbers = {key: _number(group[key]) for key in group_format.defaults}
            rebuilt = group_format.build(**{**numbers, **said})
            if jax.tree.structure(rebuilt.transforms) == jax.tree.structure(transforms):
                return group_format, group
    raise ValueError(f"to_state_dict(): {chain!r} is none of torch's optimizers: {SUPPORTED}")


def _with_number(transform: Transform, step: int) -> Transform:
    if not isinstance(transform, ScaleBySchedule):
        return transform
    undecayed = dataclasses.replace(transform, lr_decay=None)
    (negated,) = scalars_at((undecayed,), jnp.asarray(step + 1, jnp.int32))
    return ScaleByLearningRate(-float(negated), transform.lr_decay)


def _fields(transform: Any) -> dict[str, Any]:
    """Return a transform's hyperparameters; their names are torch's keys, and None is no term."""
    fields = {field.name: getattr(transform, field.name) for field in dataclasses.fields(transform)}
    return {name: value for name, value in fields.items() if value is not None}


def _number(value: Any) -> Any:
    """Return a one-element array of any library as a number, all else as it is."""
    if isinstance(value, np.ndarray | jax.Array) or hasattr(value, "__array__"):
        array = any_array(value)
        return array.item() if array.size == 1 else array
    return value


def _differs(saved: Any, said: Any) -> bool:
    return bool(_number(saved) != _number(said))
