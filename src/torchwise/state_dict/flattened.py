"""The flat form of an optimizer's dict, which torch.distributed writes for pipelines.

It is what `get_optimizer_state_dict` returns with `flatten_optimizer_state_dict=True`, and what
torchtitan saves: `{"state.0.weight.momentum_buffer": ..., "param_groups.0.weight.lr": 0.1}`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

_STATE, _GROUPS = "state.", "param_groups."


def is_flattened(value: Any) -> bool:
    """Whether something is an optimizer's dict in the flat form."""
    if not isinstance(value, Mapping) or not value:
        return False
    return all(isinstance(key, str) and key.startswith((_STATE, _GROUPS)) for key in value)


def unflattened(state_dict: Any) -> Any:
    """Return the usual form of a flat dict, with names as ids; anything else as it is.

    The flat form does not say which parameters were in one group. Those whose hyperparameters are
    all equal come into one, in the order of their first parameters: for the steps it is the same.

    Args:
        state_dict: anything.

    Returns:
        A dict with `state` and `param_groups`. Keys of a state have no dots in them, names may.
    """
    if not is_flattened(state_dict):
        return state_dict
    options: dict[str, dict[str, Any]] = {}
    state: dict[str, dict[str, Any]] = {}
    for key, value in state_dict.items():
        within, prefix = (options, _GROUPS) if key.startswith(_GROUPS) else (state, _STATE)
        name, _, last = key.removeprefix(prefix).rpartition(".")
        within.setdefault(name, {})[last] = value
    groups: list[dict[str, Any]] = []
    for name, group in options.items():
        for other in groups:
            if _same(group, {key: x for key, x in other.items() if key != "params"}):
                other["params"].append(name)
                break
        else:
            groups.append({**group, "params": [name]})
    return {"state": state, "param_groups": groups}


def _same(one: Any, other: Any) -> bool:
    """Whether values are equal and of one type; arrays of any library by their elements."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if hasattr(one, "__array__"):
        return bool(np.array_equal(np.asarray(one), np.asarray(other)))
    return bool(one == other)
