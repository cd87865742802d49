"""Hyperparameters are checked once, where they enter, with torch's words."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from torchwise.transforms.numbers import Scalar, Schedule


def refuse(condition: Any, message: str) -> None:
    """Raise a ValueError if the condition is known to be true; what is traced cannot be known."""
    if not isinstance(condition, Tracer) and bool(condition):
        raise ValueError(message)


def require(condition: Any, message: str) -> None:
    """Raise a ValueError if the condition is known to be false, as it is for NaN in comparisons."""
    if not isinstance(condition, Tracer) and not bool(condition):
        raise ValueError(message)


def learning_rate(lr: Any) -> Scalar | Schedule:
    """Return the learning rate as a number, a 0-d array or a schedule."""
    if callable(lr):
        return lr
    if isinstance(lr, jax.Array | np.ndarray):
        require(lr.size == 1, "Tensor lr must be 1-element")
        return jnp.reshape(lr, ())
    return lr
