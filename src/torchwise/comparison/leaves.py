"""The tensors and other values of a checkpoint, by name."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def leaves(value: Any, under: str = "") -> dict[str, Any]:
    """Return what is in the containers of a checkpoint by its keys and indices, joined by dots.

    So a nested dict and the flat one of another format have the same names; lists and tuples, and
    keys that are numbers and those that are texts, are the same.

    Args:
        value: what `torchwise.checkpoint.load` returned.
        under: the name of the container that is meant; everything, unless given.

    Raises:
        ValueError: if there is nothing of this name.
    """
    found: dict[str, Any] = {}
    _add(found, value, ())
    if not under:
        return found
    if under in found:
        return {under: found[under]}
    start = f"{under}."
    below = {name[len(start) :]: one for name, one in found.items() if name.startswith(start)}
    if not below:
        raise ValueError(f"has nothing under {under!r}")
    return below


def kind_of(value: Any) -> str:
    """Return what a value is, as both sides have to be the same to be compared."""
    return "tensor" if isinstance(value, np.ndarray) else type(value).__name__


def _add(found: dict[str, Any], value: Any, path: tuple[Any, ...]) -> None:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            _add(found, item, (*path, key))
    elif isinstance(value, list | tuple) and value:
        for index, item in enumerate(value):
            _add(found, item, (*path, index))
    else:
        name = ".".join(map(str, path))
        # {"a.b": 1, "a": {"b": 2}} has two values of one name.
        found[name if name not in found else f"{name} at {path!r}"] = value
