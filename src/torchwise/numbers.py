"""Hyperparameters as numbers: double precision, and checks where they enter."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

Scalar: TypeAlias = float | int | np.number | np.ndarray | jax.Array
Schedule: TypeAlias = Callable[[Any], Any]
_ARRAYS = (jax.Array, np.ndarray)
_LARGEST = float(np.finfo(np.float32).max)


def is_array(value: Any) -> bool:
    """Whether a hyperparameter is an array, which is data and may be another at the next call."""
    return isinstance(value, _ARRAYS)


def double(value: Any) -> Any:
    """Return a one-element array as 0-d float64 (where 64-bit types are on), a number as float.

    A count below zero becomes NaN. No count is negative, but XLA must not know that: it would
    remove a selection that `pinned` relies on.
    """
    if not is_array(value):
        return float(value)
    if value.size != 1:
        return value
    wide = jnp.reshape(value, ()).astype(jnp.float64)
    return jnp.where(wide < 0, jnp.nan, wide) if jnp.issubdtype(value.dtype, jnp.integer) else wide


def split(values: Sequence[float]) -> np.ndarray:
    """Return numbers of double precision as float32, for programs whose types have 32 bits.

    Returns:
        An array (n, 3): the sum of each row is a number, exactly, unless it is as small as the
            smallest of float32. A rest of nothing is -0.0, which leaves a -0.0 as it is.
    """
    rest = np.array(values, np.float64)
    rows = np.empty((rest.size, 3), np.float32)
    if all(-_LARGEST <= value <= _LARGEST for value in values):
        for column in rows.T:
            column[:] = rest
            rest = -(column - rest)
        return rows
    for column in rows.T:
        column[:] = rest
        with np.errstate(invalid="ignore"):  # infinities, which have no rest
            rest = np.where(np.isfinite(column), -(column - rest), 0)
    return rows


def joined(numbers: jax.Array) -> list[jax.Array]:
    """Return numbers, or what `split` made rows of, 0-d and in double precision."""
    with jax.enable_x64(True):
        wide = numbers.astype(jnp.float64)
        whole = wide if wide.ndim == 1 else wide[:, 0] + (wide[:, 1] + wide[:, 2])
        return [whole[index] for index in range(whole.shape[0])]


def number(value: Any) -> Any:
    """Return a one-element array as a Python number, everything else as it is."""
    return value.item() if is_array(value) and value.size == 1 else value


def tensor_number(value: Any) -> Any:
    """Return a one-element array as a number that computes as a tensor of torch does.

    That of float32 is one of numpy, whose sums, products and quotients round to float32, also with
    Python's floats; any other is a Python number.
    """
    if is_array(value) and value.size == 1 and value.dtype == np.float32:
        return np.float32(value.item())
    return number(value)


def refuse(condition: Any, message: str) -> None:
    """Raise a ValueError if the condition is known to be true; a traced one is not known."""
    if not isinstance(condition, Tracer) and bool(condition):
        raise ValueError(message)


def require(condition: Any, message: str) -> None:
    """Raise a ValueError if the condition is known to be false, as comparisons with NaN are."""
    if not isinstance(condition, Tracer) and not bool(condition):
        raise ValueError(message)


def first_rate(lr: Any) -> Any:
    """Return the learning rate of the first gradient, 0-d if it is an array."""
    lr = lr(jnp.zeros((), jnp.int32)) if callable(lr) else lr
    return jnp.reshape(lr, ()) if is_array(lr) else lr


def check_rate(lr: Any) -> None:
    """Raise a ValueError for a learning rate that is negative, NaN or of several elements."""
    if not callable(lr):
        check_single(lr)
        require(0.0 <= lr, f"Invalid learning rate: {lr}")


def check_single(lr: Any) -> None:
    """Raise a ValueError for a learning rate that is an array of more than one element."""
    if is_array(lr):
        require(lr.size == 1, "Tensor lr must be 1-element")
