"""The hyperparameters of a group, read as numbers: what users write there may be anything."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from torchwise.numbers import tensor_number
from torchwise.optim.parameter import is_tensor
from torchwise.optim.transaction import refuse_traced

_PLAIN = frozenset([int, float, bool, str, type(None)])


def hyperparameters(group: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return those hyperparameters of a group, with one-element arrays as numbers.

    A key that the group lacks is None.

    Raises:
        TypeError: for a function, which is no number.
        ValueError: for an array of several elements.
    """
    return {
        key: value if type(value) in _PLAIN else _read(key, value)
        for key, value in zip(keys, map(group.get, keys))
    }


def is_immutable(value: Any) -> bool:
    """Whether an object is a number, or a tuple of numbers, and will stay so."""
    return all(map(is_immutable, value)) if type(value) is tuple else type(value) in _PLAIN


def _read(key: str, value: Any) -> Any:
    if callable(value):
        raise TypeError(
            f"{key} is a function, but a stateful optimizer takes numbers: use a class of "
            f"torchwise.optim.lr_scheduler, or set param_groups[i][{key!r}] between steps; pure "
            "functions, as torchwise.sgd, take schedules"
        )
    if isinstance(value, list | tuple):
        return tuple(_read(key, one) for one in value)
    refuse_traced(value)
    found = _of_tensor(value) if is_tensor(value) else tensor_number(value)
    if hasattr(found, "shape") and found.shape != ():
        raise ValueError(f"Tensor {key} must be 1-element")
    return found


def _of_tensor(value: Any) -> Any:
    if value.numel() != 1:
        return value
    return np.float32(value.item()) if str(value.dtype) == "torch.float32" else value.item()
