"""Arrays of any library as arrays of JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.checkpoint.arrays import as_numpy


def any_array(value: Any) -> np.ndarray | jax.Array:
    """Return an array of any library as one that numpy and JAX read; memory on a CPU is shared.

    Raises:
        TypeError: for what is no array and no number.
    """
    if isinstance(value, jax.Array):
        return value
    if isinstance(value, np.generic | bool | int | float | complex):
        return np.asarray(value)
    array = as_numpy(value, "cannot be read")
    if array is None:
        raise TypeError(f"is a {type(value).__name__}, no array")
    return array


def adopted(array: np.ndarray | jax.Array, dtype: Any) -> jax.Array:
    """Return a copy in JAX's own memory: torch and numpy change theirs in place.

    Raises:
        ValueError: if a complex array is to become real.
    """
    if jnp.iscomplexobj(array) and not jnp.issubdtype(dtype, jnp.complexfloating):
        raise ValueError(f"is {array.dtype}, the parameter {jnp.dtype(dtype)}")
    return jnp.array(array, dtype)
