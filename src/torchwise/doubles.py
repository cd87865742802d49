"""Arithmetic for the numbers of a step: Python's floats, or traced float64 with the same bits.

Python rounds after every operation; XLA contracts products and sums, and rewrites powers.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from torchwise.numbers import double
from torchwise.rounding import pinned

P = ParamSpec("P")
T = TypeVar("T")


def power(base: Any, exponent: Any) -> Any:
    """`base**exponent`. XLA would turn a power of 0.5 into a root, and a quotient into a power.

    So would LLVM, from which no barrier hides a constant: the exponent is a selection.
    """
    if type(base) is float:
        if type(exponent) is int or type(exponent) is float:  # as a stateful step asks, often
            return base**exponent
    elif _is_single(base) and exponent == 3:
        return base * base * base  # as torch; its other powers of float32 are powers
    if not any(isinstance(value, jax.Array) for value in (base, exponent)):
        return base**exponent
    wide = (jnp.asarray(double(value), jnp.float64) for value in (base, exponent))
    base, exponent = map(_hidden, wide)
    return pinned(lax.pow(base, jnp.where(base == base, exponent, base)))


def quotient(number: Any, divisor: Any) -> Any:
    """`number / divisor`. torch multiplies a number by the reciprocal of a float32 tensor."""
    if _is_single(divisor) and not _is_single(number):
        return 1 / divisor * number
    return number / divisor


def root(x: Any) -> Any:
    """`math.sqrt(x)`, which is not always `x**0.5`."""
    if not isinstance(x, jax.Array):
        return math.sqrt(x)
    return pinned(lax.sqrt(x))


def product(*factors: Any) -> Any:
    """The product, from left to right, rounded before anything is added to it."""
    result = factors[0]
    for factor in factors[1:]:
        result = pinned(result * factor)
    return result


def choose(condition: Any, one: Callable[[], Any], other: Callable[[], Any]) -> Any:
    """What `one` returns where the condition holds, else what `other` returns."""
    if isinstance(condition, jax.Array):
        return jnp.where(condition, one(), other())
    return one() if condition else other()


def in_double(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function that is traced among 32-bit types compute with 64-bit ones."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return wrapper


def _is_single(value: Any) -> bool:
    """Whether a number is one of float32, from `tensor_number`."""
    return isinstance(value, np.generic) and value.dtype == np.float32


def _hidden(x: jax.Array) -> jax.Array:
    """Hide from XLA that a number is a constant."""
    return lax.optimization_barrier(x)
