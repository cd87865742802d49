"""The tensors and other values of a checkpoint, by name."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from torchwise.checkpoint.inside import inside
from torchwise.checkpoint.records import Record, is_module
from torchwise.checkpoint.tensors import OTHER_TENSORS

MAX_LEAVES = 1_000_000
"""Of a checkpoint: the names of more take too much memory. A few bytes of a file can make more."""

_LONG = 20  # a list of more numbers, as a history of losses, is one value


def leaves(value: Any, under: str = "") -> dict[str, Any]:
    """Return what is in the containers of a checkpoint by its keys and indices, joined by dots.

    So a nested dict and the flat one of another format have the same names; lists and tuples, and
    keys that are numbers and those that are texts, are the same.

    Args:
        value: what `torchwise.checkpoint.load` returned.
        under: the name of the part that is meant; everything, unless given.

    Raises:
        ValueError: if there is nothing of this name, or too much.
    """
    found: dict[str, Any] = {}
    _add(found, value, (), ())
    if not under:
        return found
    if under in found:
        return {"(value)": found[under]}
    start = f"{under}."
    below = {name[len(start) :]: one for name, one in found.items() if name.startswith(start)}
    if not below:
        raise ValueError(f"has nothing under {under!r}")
    return below


def kind_of(value: Any) -> str:
    """Return what a value is, as both sides have to be the same to be compared."""
    if isinstance(value, np.ndarray):
        return "tensor"
    return "list" if isinstance(value, tuple) else type(value).__name__


def _add(found: dict[str, Any], value: Any, path: tuple[Any, ...], outer: tuple[Any, ...]) -> None:
    if isinstance(value, (Record, *OTHER_TENSORS)):
        if any(value is one for one in outer):
            _add(found, "(a record around it)", path, ())
            return
        outer = (*outer, value)
        if not is_module(value):  # whose tensors may be compared with those of a state dict
            is_record = isinstance(value, Record)
            name = value.name if is_record else type(value).__name__
            _add(found, name, (*path, "(class)"), outer)
        value = inside(value)
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            _add(found, item, (*path, key), outer)
    elif isinstance(value, list | tuple) and value and not _is_history(value):
        for index, item in enumerate(value):
            _add(found, item, (*path, index), outer)
    else:
        name = ".".join(map(str, path))
        # {"a.b": 1, "a": {"b": 2}} has two values of one name.
        if len(found) == MAX_LEAVES:
            raise ValueError(f"has more than {MAX_LEAVES} values to compare")
        found[name if name not in found else f"{name} at {path!r}"] = value


def _is_history(value: list | tuple) -> bool:
    return len(value) > _LONG and all(type(one) in (int, float) for one in value)
