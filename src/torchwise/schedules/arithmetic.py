"""Python's arithmetic for formulas that may be traced: every operation rounds by itself.

XLA contracts products and sums, divides by multiplying with reciprocals, refolds `(pi * x) / n`,
and rewrites powers. A formula that is written with Python's operators and the functions of this
file gives the bits of Python's floats, whether it gets Python numbers or a `Double`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from torchwise.doubles import power as _power
from torchwise.numbers import is_array
from torchwise.rounding import pinned


class Double:
    """Traced numbers in double precision, of any shape, that round after every operation.

    Attributes:
        value: a float64 array.
    """

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __init__(self, value: jax.Array) -> None:
        self.value = value

    def __add__(self, other: Any) -> "Double":
        return _rounded(self.value + _wide(other))

    def __sub__(self, other: Any) -> "Double":
        return _rounded(self.value - _wide(other))

    def __rsub__(self, other: Any) -> "Double":
        return _rounded(_wide(other) - self.value)

    def __mul__(self, other: Any) -> "Double":
        return _rounded(self.value * _wide(other))

    def __truediv__(self, other: Any) -> "Double":
        return _rounded(_quotient(self.value, _wide(other)))

    def __rtruediv__(self, other: Any) -> "Double":
        return _rounded(_quotient(_wide(other), self.value))

    def __mod__(self, other: Any) -> "Double":
        """Python's: with the sign of the divisor, and exact."""
        x, y = jnp.broadcast_arrays(self.value, _wide(other))
        rest = lax.rem(x, y)
        return _rounded(jnp.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest))

    def __floordiv__(self, other: Any) -> "Double":
        """Python's: the remainder is exact, and what it leaves divides nearly without one."""
        x, y = jnp.broadcast_arrays(self.value, _wide(other))
        rest = lax.rem(x, y)
        whole = jnp.round(_quotient(pinned(x - rest), y))
        return Double(jnp.where((rest != 0) & ((rest < 0) != (y < 0)), whole - 1, whole))

    def __rmod__(self, other: Any) -> "Double":
        return Double(_wide(other)) % self

    def __rfloordiv__(self, other: Any) -> "Double":
        return Double(_wide(other)) // self

    def __lt__(self, other: Any) -> Any:
        return self.value < _wide(other)

    def __le__(self, other: Any) -> Any:
        return self.value <= _wide(other)

    def __gt__(self, other: Any) -> Any:
        return self.value > _wide(other)

    def __ge__(self, other: Any) -> Any:
        return self.value >= _wide(other)

    def __eq__(self, other: object) -> Any:
        return self.value == _wide(other)

    __radd__, __rmul__ = __add__, __mul__


def traced(value: Any) -> Any:
    """Return an array of any type as a `Double`, another number as it is; among 64-bit types.

    The smallest integer becomes NaN. It does not occur, but XLA must not know that a number is
    never NaN: `pinned` would have no effect.
    """
    if not is_array(value):
        return value
    array = jnp.asarray(value)
    wide = array.astype(jnp.float64)
    if jnp.issubdtype(array.dtype, jnp.signedinteger):
        wide = jnp.where(array == jnp.iinfo(array.dtype).min, jnp.nan, wide)
    return Double(wide)


def cos(x: Any) -> Any:
    """`math.cos(x)`; XLA's cosine of doubles is that of the C library on CPU."""
    return _rounded(jnp.cos(x.value)) if isinstance(x, Double) else math.cos(x)


def power(base: Any, exponent: Any) -> Any:
    """`base**exponent`."""
    if not isinstance(base, Double) and not isinstance(exponent, Double):
        return base**exponent
    return Double(_power(*jnp.broadcast_arrays(_wide(base), _wide(exponent))))


def floor(x: Any) -> Any:
    """`math.floor(x)`."""
    return Double(jnp.floor(x.value)) if isinstance(x, Double) else math.floor(x)


def least(x: Any, y: Any) -> Any:
    """`min(x, y)`."""
    return choose(y < x, lambda: y, lambda: x)


def largest(x: Any, y: Any) -> Any:
    """`max(x, y)`."""
    return choose(y > x, lambda: y, lambda: x)


def choose(condition: Any, one: Callable[[], Any], other: Callable[[], Any]) -> Any:
    """Return what `one` returns where the condition holds, else what `other` returns."""
    if not isinstance(condition, jax.Array):
        return one() if condition else other()
    return Double(jnp.where(condition, _wide(one()), _wide(other())))


def iterate(function: Callable[[Any, Any], Any], value: Any, count: Any) -> Any:
    """Return `function(... function(function(value, 1), 2) ..., count)`, with whole numbers."""
    if not isinstance(count, Double) and not isinstance(value, Double):
        for index in range(1, int(count) + 1):
            value = function(value, index)
        return value
    upper, start = jnp.broadcast_arrays(_wide(count), _wide(value))

    def body(index: Any, held: jax.Array) -> jax.Array:
        new = _wide(function(Double(held), traced(index)))
        return jnp.where(index.astype(upper.dtype) <= upper, new, held)

    last = jnp.max(upper, initial=0).astype(jnp.int32)
    return Double(lax.fori_loop(jnp.int32(1), last + 1, body, start))


def whole(count: Any) -> Any:
    """Return a count as the user's functions get it: an int, or an int32 array."""
    return count.value.astype(jnp.int32) if isinstance(count, Double) else int(count)


def plain(value: Any) -> Any:
    """Return the array of a `Double`, another number as it is."""
    return value.value if isinstance(value, Double) else value


def _rounded(value: Any) -> Double:
    return Double(pinned(value))


def _wide(value: Any) -> jax.Array:
    return value.value if isinstance(value, Double) else jnp.asarray(value).astype(jnp.float64)


def _quotient(x: jax.Array, y: jax.Array) -> jax.Array:
    """A true quotient: XLA multiplies by the reciprocal of what is a constant, or one number."""
    x, y = jnp.broadcast_arrays(x, y)
    return x / jnp.where(x == x, y, x)
