"""State dicts of the stateful face: everything is checked first, then handed over at once."""

import functools
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from torchwise.optim.parameter import Parameter
from torchwise.state_dict.layout import Place
from torchwise.state_dict.leaves import load_entry, shapes_of
from torchwise.state_dict.matching import match_names
from torchwise.transforms.placement import beside

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
    return {"state": state, "param_groups": groups}


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
    problems: list[str] = []
    owners: dict[Any, tuple[Parameter, str]] = {}
    groups = []
    for index, (saved, live) in enumerate(zip(saved_groups, live_groups)):
        matched, mismatches = _match(index, saved, live)
        group = _merged(saved, live, optimizer._added_later)
        owners.update(zip(saved["params"], matched))
        problems += mismatches + _group_problems(optimizer, index, group)
        groups.append(group)
    known_state = functools.cache(functools.partial(shapes_of, optimizer._memory().transforms))
    state: defaultdict[Parameter, dict[str, Any]] = defaultdict(dict)
    for identity, entry in state_dict["state"].items():
        if identity not in owners:
            problems.append(f"state of {identity!r}, which no group has")
            continue
        parameter, label = owners[identity]
        known = known_state(parameter.shape, parameter.dtype)
        place = Place(label, label, None, parameter.shape, parameter.dtype)
        loaded, mismatches = load_entry(label, entry, known, place)
        arrays = {key: value for key, value in loaded.items() if isinstance(value, jax.Array)}
        loaded |= beside(parameter.data, arrays)
        problems += mismatches
        if loaded:
            state[parameter] = loaded
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(f"load_state_dict() changed nothing, because of:\n  {listed}")
    return groups, state


def _match(
    index: int, saved: dict[str, Any], live: dict[str, Any]
) -> tuple[list[tuple[Parameter, str]], list[str]]:
    """Return the parameter and the label of each saved id: by name where both sides have names."""
    parameters = live["params"]
    theirs, ours = saved.get("param_names"), live.get("param_names")
    if theirs is None or ours is None:
        labels = [f"parameter {identity}" for identity in saved["params"]]
        return list(zip(parameters, labels)), []
    order, problems = match_names(theirs, ours)
    if problems:
        listed = [f"group {index}: {problem}" for problem in problems]
        return list(zip(parameters, map(repr, ours))), listed
    return [(parameters[position], repr(name)) for position, name in zip(order, theirs)], []


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
        optimizer._check({key: value for key, value in group.items() if key != "params"})
    except (TypeError, ValueError) as error:
        return [f"group {index}: {error}"]
    return []


def _copied(value: Any) -> Any:
    """Return a copy of what could be changed in place, so that no two owners share it."""
    if isinstance(value, list | tuple | dict):
        return type(value)(value)
    return value.copy() if isinstance(value, np.ndarray) else value
