"""Hyperparameters are checked once, where they enter, with torch's words."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer


def refuse(condition: Any, message: str) -> None:
    """Raise a ValueError if the condition is known to be true; what is traced cannot be known."""
    if not isinstance(condition, Tracer) and bool(condition):
        raise ValueError(message)


def require(condition: Any, message: str) -> None:
    """Raise a ValueError if the condition is known to be false, as it is for NaN in comparisons."""
    if not isinstance(condition, Tracer) and not bool(condition):
        raise ValueError(message)


def check_single(lr: Any) -> None:
    """A learning rate that is an array has one element."""
    if isinstance(lr, jax.Array | np.ndarray):
        require(lr.size == 1, "Tensor lr must be 1-element")
