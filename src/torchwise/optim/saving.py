"""State dicts of the stateful face: everything is checked first, then handed over at once."""

import functools
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.optim.parameter import Parameter
from torchwise.transforms import entries
from torchwise.transforms.chain import Chain
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
    known_state = functools.cache(functools.partial(_known_state, optimizer._memory()))
    state: defaultdict[Parameter, dict[str, Any]] = defaultdict(dict)
    for identity, entry in state_dict["state"].items():
        if identity not in owners:
            problems.append(f"state of {identity!r}, which no group has")
            continue
        parameter, label = owners[identity]
        known = known_state(parameter.shape, parameter.dtype)
        loaded, mismatches = _load_entry(label, entry, known, parameter.data)
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
    missing = [name for name in ours if name not in theirs]
    unexpected = [name for name in theirs if name not in ours]
    if missing or unexpected or len(set(theirs)) < len(theirs):
        problems = [f"group {index}: missing {name!r}" for name in missing]
        problems += [f"group {index}: unexpected {name!r}" for name in unexpected]
        if len(set(theirs)) < len(theirs):
            problems.append(f"group {index}: the same name twice in {theirs}")
        return list(zip(parameters, map(repr, ours))), problems
    by_name = dict(zip(ours, parameters))
    return [(by_name[name], repr(name)) for name in theirs], []


def _load_entry(
    label: str, saved: dict[str, Any], known: dict[str, Any], param: jax.Array
) -> tuple[dict[str, Any], list[str]]:
    """Return a parameter's state in its type and place, and what is wrong with the saved one."""
    # An old version's `momentum_buffer: None` is no state.
    entry = {key: value for key, value in saved.items() if value is not None}
    if not entry:
        return {}, []
    problems = [f"{label}: unexpected state {key!r}" for key in entry if key not in known]
    loaded: dict[str, Any] = {}
    for key, like in known.items():
        if key not in entry:
            problems.append(f"{label}: missing state {key!r}")
            continue
        value = _array(entry[key])
        if value.shape != like.shape:
            holder = "a scalar is wanted" if not like.shape else f"the parameter {like.shape}"
            problems.append(f"{label}: {key!r} has shape {value.shape}, {holder}")
        elif key == entries.STEP:
            loaded[key] = np.float32(value)
        else:
            loaded[key] = beside(param, jnp.array(value, like.dtype))
    return loaded, problems


def _known_state(memory: Chain, shape: tuple[int, ...], dtype: np.dtype) -> dict[str, Any]:
    """Return the shapes and types of all state that such a parameter may have."""
    initial = functools.partial(entries.initial, memory.transforms)
    known = jax.eval_shape(initial, jax.ShapeDtypeStruct(shape, dtype))
    counts = entries.saves_step(memory.transforms)
    return {entries.STEP: jax.ShapeDtypeStruct((), np.float32), **known} if counts else known


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
