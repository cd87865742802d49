"""Hyperparameters as numbers: double precision, and zeros that are no terms at all."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Scalar: TypeAlias = float | int | np.number | np.ndarray | jax.Array
Schedule: TypeAlias = Callable[[Any], Any]


def absent_if_zero(value: Scalar) -> Scalar | None:
    """Return None for a number that is zero: the term is left out of the program.

    An array is data, also when it happens to be zero: it may be another number at the next call.
    """
    if isinstance(value, jax.Array | np.ndarray):
        return value
    return None if value == 0 else value


def double(value: Any) -> Any:
    """Return a one-element array as 0-d float64 (where 64-bit types are on), a number as float.

    A count below zero becomes NaN. There is none; but a product known never to be NaN would lose
    its pin, see `pinned`.
    """
    if not isinstance(value, jax.Array | np.ndarray):
        return float(value)
    wide = jnp.reshape(value, ()).astype(jnp.float64)
    return jnp.where(wide < 0, jnp.nan, wide) if jnp.issubdtype(value.dtype, jnp.integer) else wide


def pinned(x: Any, beside: Any = None, nan: Callable[[Any], Any] = lambda nan: nan) -> Any:
    """Return `x`, hidden from the compiler: what stands on either side is not merged across.

    XLA contracts product and sum to one fused multiply-add. Where torch rounds the product, it is
    pinned. And LLVM tears products from their sums where it reads short rows: it moves either in
    front of the shuffles of an array just loaded. Where torch has a fused multiply-add, the factor
    is pinned, and reading the other summand `beside` it keeps that one in place.
    On CPU no barrier or bit cast does any of this; a selection does, as long as its arms are no
    constants and the compiler cannot prove that `x` is no NaN. The arm for NaN gives NaN, through
    the function `nan` of it.
    """
    if not isinstance(x, jax.Array):
        return x
    # Arrays on explicitly different devices may be added, but do not meet in one selection.
    if beside is None or _sharding(beside) != _sharding(x):
        beside = x
    return jnp.where(x == x, x, nan(x + beside))


def _sharding(x: jax.Array) -> Any:
    return getattr(jax.typeof(x), "sharding", None)
