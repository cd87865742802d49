"""The form of a state dict: what is none is refused by a sentence, whatever else it is."""

from collections.abc import Mapping
from typing import Any


def malformed(state_dict: Any) -> str | None:
    """Return what keeps something from being the state dict of an optimizer, or None."""
    if not isinstance(state_dict, Mapping):
        return f"got a {type(state_dict).__name__}"
    missing = [key for key in ("state", "param_groups") if key not in state_dict]
    if missing:
        within = [key for key, value in state_dict.items() if malformed(value) is None]
        meant = f"; pass what is under {within[0]!r}" if within else ""
        lacks = f"{' and '.join(map(repr, missing))} {'are' if missing[1:] else 'is'} missing"
        return f"{lacks} from {_keys(state_dict)}{meant}"
    state, groups = state_dict["state"], state_dict["param_groups"]
    if not isinstance(state, Mapping):
        return f"'state' is a {type(state).__name__}, no dict"
    for identity, entry in state.items():
        if not isinstance(entry, Mapping):
            return f"the state of {identity!r} is a {type(entry).__name__}, no dict"
    if not isinstance(groups, list | tuple):
        return f"'param_groups' is a {type(groups).__name__}, no list"
    return None


def malformed_group(index: int, group: Any) -> str | None:
    """Return what keeps something from being a group of a state dict, or None."""
    if not isinstance(group, Mapping):
        return f"group {index} is a {type(group).__name__}, no dict"
    ids = group.get("params")
    if not isinstance(ids, list | tuple):
        return f"group {index} has no list of ids under 'params', but {_keys(group)}"
    if not all(isinstance(identity, int | str) for identity in ids):
        return f"group {index} has something else than ids under 'params'"
    return None


def malformed_names(index: int, group: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the names in a group that is not malformed, or None."""
    names = group.get("param_names", [])
    listed = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    if "param_names" in group and not (listed and len(names) == len(group["params"])):
        return f"group {index} has no name for each parameter under 'param_names'"
    return None


def _keys(mapping: Mapping[Any, Any]) -> str:
    listed = [repr(key) for key in mapping][:8]
    return ", ".join(listed) + ", ..." * (len(mapping) > len(listed)) if listed else "an empty dict"
