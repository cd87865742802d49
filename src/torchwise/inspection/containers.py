"""What a value of a checkpoint is: a container, an optimizer."""

from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np


def is_container(value: Any) -> bool:
    """Whether a value can hold others, or is an array."""
    return isinstance(value, Mapping | list | tuple | np.ndarray)


def is_optimizer(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value is what `state_dict()` of a torch optimizer returns."""
    if not isinstance(value, Mapping) or not {"state", "param_groups"} <= value.keys():
        return False
    groups, state = value["param_groups"], value["state"]
    return (
        isinstance(groups, list)
        and all(map(_is_group, groups))
        and isinstance(state, Mapping)
        and all(isinstance(entry, Mapping) for entry in state.values())
    )


def _is_group(group: Any) -> bool:
    if not isinstance(group, Mapping) or "params" not in group:
        return False
    ids, names = group["params"], group.get("param_names", ())
    return (
        isinstance(ids, list | tuple)
        and all(isinstance(identity, int | str) for identity in ids)
        and isinstance(names, list | tuple)
    )
