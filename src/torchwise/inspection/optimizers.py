"""The state dict of an optimizer, laid out: groups, and what the file says of each parameter."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchwise.inspection.optimizer_names import optimizer_name

_HIDDEN = ("params", "param_names")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a group.

    Attributes:
        identity: torch's id of it.
        name: if the file has it.
        shape: that of the tensor of this name in the file; else that of the largest array of its
            state, if it has one.
        dtype: of the same.
        state: by torch's keys.
    """

    identity: int | str
    name: str | None
    shape: tuple[int, ...] | None
    dtype: str | None
    state: Mapping[Any, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """One group.

    Attributes:
        optimizer: torch's name of it; None if it is unknown.
        options: hyperparameters, and what else stands in the group.
        parameters: of the group.
        same: an earlier group that is the very same object, and says the rest.
        like: an earlier group whose options have the same keys.
    """

    optimizer: str | None
    options: Mapping[str, Any]
    parameters: Sequence[Parameter]
    same: int | None
    like: int | None


def groups_of(
    state_dict: Mapping[str, Any], tensors: Mapping[str, np.ndarray | None]
) -> Iterator[Group]:
    """Yield the groups of a state dict that `is_optimizer`.

    Args:
        state_dict: that of the optimizer.
        tensors: those of the file by name, see `named_tensors`.
    """
    state, groups = state_dict["state"], state_dict["param_groups"]
    seen: dict[int, int] = {}
    keyed: dict[tuple[Any, ...], int] = {}
    for index, group in enumerate(groups):
        first = seen.setdefault(id(group), index)
        if first != index:
            yield Group(None, {}, (), same=first, like=None)
            continue
        options = {key: value for key, value in group.items() if key not in _HIDDEN}
        like = keyed.setdefault(tuple(options), index)
        ids, names = group["params"], group.get("param_names", ())
        entries = [state.get(identity, {}) for identity in ids]
        keys = {key for entry in {id(x): x for x in entries}.values() for key in entry}
        parameters = [
            _parameter(identity, names[i] if i < len(names) else None, entry, tensors)
            for i, (identity, entry) in enumerate(zip(ids, entries))
        ]
        yield Group(
            optimizer_name(group, keys),
            options,
            parameters,
            same=None,
            like=like if like != index else None,
        )


def named_tensors(value: Any) -> dict[str, np.ndarray | None]:
    """Return the tensors in the dicts of a checkpoint by their keys.

    Returns:
        One tensor for each name; None where tensors of one name have different shapes, as in a
        checkpoint of two models.
    """
    found: dict[str, np.ndarray | None] = {}
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, Mapping | list | tuple) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Mapping):
            for key, item in one.items():
                if isinstance(item, np.ndarray) and isinstance(key, str):
                    other = found.setdefault(key, item)
                    if other is not None and other.shape != item.shape:
                        found[key] = None
        waiting.extend(one.values() if isinstance(one, Mapping) else one)
    return found


def left_over(state_dict: Mapping[str, Any]) -> Sequence[Any]:
    """Return the ids that have a state and are in no group."""
    members = {identity for group in state_dict["param_groups"] for identity in group["params"]}
    return [identity for identity in state_dict["state"] if identity not in members]


def _parameter(
    identity: int | str,
    name: Any,
    entry: Mapping[Any, Any],
    tensors: Mapping[str, np.ndarray | None],
) -> Parameter:
    if name is None and isinstance(identity, str):
        name = identity  # FSDP and torch's get_state_dict write names in the place of ids
    named = tensors.get(name) if isinstance(name, str) else None
    arrays = [value for value in entry.values() if isinstance(value, np.ndarray)]
    largest = max(reversed(arrays), key=lambda x: (x.ndim, x.size), default=None)
    array = largest if named is None else named
    if array is None:
        return Parameter(identity, name, None, None, entry)
    return Parameter(identity, name, array.shape, array.dtype.name, entry)
