"""State dicts of the stateful face: everything is checked first, then handed over at once."""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.optim.parameter import Parameter
from torchwise.transforms import entries

if TYPE_CHECKING:
    from torchwise.optim.optimizer import Optimizer


def to_dict(optimizer: "Optimizer") -> dict[str, Any]:
    """Return torch's layout: ids count the parameters through all groups."""
    ids: dict[Parameter, int] = {}
    groups = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            ids[parameter] = len(ids)
        packed = {key: _copied(value) for key, value in group.items() if key != "params"}
        groups.append({**packed, "params": [ids[parameter] for parameter in group["params"]]})
    state = {ids[parameter]: dict(entry) for parameter, entry in optimizer.state.items() if entry}
    return {"state": dict(sorted(state.items())), "param_groups": groups}


def from_dict(
    optimizer: "Optimizer", state_dict: dict[str, Any]
) -> tuple[list[dict[str, Any]], defaultdict[Parameter, dict[str, Any]]]:
    """Return the groups and the state that a state dict means for an optimizer.

    Raises:
        ValueError: listing all problems; the optimizer is not changed in any case.
    """
    saved_groups, live_groups = state_dict["param_groups"], optimizer.param_groups
    if len(saved_groups) != len(live_groups):
        raise ValueError("loaded state dict has a different number of parameter groups")
    for saved, live in zip(saved_groups, live_groups):
        if len(saved["params"]) != len(live["params"]):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of "
                "optimizer's group"
            )
    loader = _Loader(optimizer._state_keys, state_dict["state"])
    groups = []
    for index, (saved, live) in enumerate(zip(saved_groups, live_groups)):
        loader.load_group(index, saved, live)
        groups.append(_merged(saved, live, optimizer._added_later))
        loader.problems += _group_problems(optimizer, index, groups[-1])
    loader.note_unexpected()
    if loader.problems:
        listed = "\n  ".join(loader.problems)
        raise ValueError(f"load_state_dict() changed nothing, because of:\n  {listed}")
    return groups, loader.state


class _Loader:
    """Collects the new state and every problem on the way."""

    def __init__(self, known: tuple[str, ...], saved: dict[Any, Any]) -> None:
        self.state: defaultdict[Parameter, dict[str, Any]] = defaultdict(dict)
        self.problems: list[str] = []
        self._known = known
        self._saved = dict(saved)

    def load_group(self, index: int, saved: dict[str, Any], live: dict[str, Any]) -> None:
        """Match the ids of a group with its parameters, by name where both sides have names."""
        parameters = list(live["params"])
        labels = [f"parameter {identity}" for identity in saved["params"]]
        theirs, ours = saved.get("param_names"), live.get("param_names")
        if theirs is not None and ours is not None:
            labels = list(map(repr, theirs))
            missing = [name for name in ours if name not in theirs]
            unexpected = [name for name in theirs if name not in ours]
            self.problems += [f"group {index}: missing {name!r}" for name in missing]
            self.problems += [f"group {index}: unexpected {name!r}" for name in unexpected]
            if missing or unexpected:
                for identity in saved["params"]:
                    self._saved.pop(identity, None)
                return
            by_name = dict(zip(ours, parameters))
            parameters = [by_name[name] for name in theirs]
        for identity, parameter, label in zip(saved["params"], parameters, labels):
            entry = self._saved.pop(identity, None)
            if entry:
                self._load_entry(label, entry, parameter)

    def note_unexpected(self) -> None:
        """Report state of ids that no group has."""
        self.problems += [f"state of {identity!r}, which no group has" for identity in self._saved]

    def _load_entry(self, label: str, entry: dict[str, Any], parameter: Parameter) -> None:
        entry = {key: value for key, value in entry.items() if value is not None}
        for key in entry:
            if key not in self._known:
                self.problems.append(f"{label}: unexpected state {key!r}")
        if not entry:  # an old version's `momentum_buffer: None` is no state
            return
        for key in self._known:
            if key not in entry:
                self.problems.append(f"{label}: missing state {key!r}")
            elif key == entries.STEP:
                self.state[parameter][key] = np.float32(_array(entry[key]))
            else:
                value = _array(entry[key])
                if value.shape != parameter.shape:
                    self.problems.append(
                        f"{label}: {key!r} has shape {value.shape}, the parameter {parameter.shape}"
                    )
                self.state[parameter][key] = jnp.array(value, parameter.dtype)


def _merged(
    saved: dict[str, Any], live: dict[str, Any], added_later: dict[str, Any]
) -> dict[str, Any]:
    """Return the saved group over the live parameters, whose names stay."""
    kept = {key: _copied(value) for key, value in saved.items() if key != "params"}
    group = {**kept, "params": live["params"]}
    if "param_names" in live:
        group["param_names"] = live["param_names"]
    elif "param_names" in group:
        group["param_names"] = list(group["param_names"])
    for key, value in added_later.items():
        group.setdefault(key, value)
    return group


def _group_problems(optimizer: "Optimizer", index: int, group: dict[str, Any]) -> list[str]:
    missing = [key for key in optimizer.defaults if key not in group]
    if missing:
        return [f"group {index}: missing {key!r}" for key in missing]
    try:
        optimizer._check(group)
    except (TypeError, ValueError) as error:
        return [f"group {index}: {error}"]
    return []


def _array(value: Any) -> np.ndarray | jax.Array:
    """Return an array of any library as one that we read; torch's through DLPack."""
    if isinstance(value, jax.Array | np.ndarray | np.generic | int | float):
        return value if isinstance(value, jax.Array) else np.asarray(value)
    return jnp.from_dlpack(value.detach() if hasattr(value, "detach") else value)


def _copied(value: Any) -> Any:
    """Return a copy of what could be changed in place, so that no two owners share it."""
    if isinstance(value, list | tuple | dict):
        return type(value)(value)
    return value.copy() if isinstance(value, np.ndarray) else value
