"""torch's tensor methods under torch's names, with torch's roundings, under XLA.

An optimizer equals torch to the bit when each line rounds where torch rounds. On CPUs with FMA

- `mul`, `div`, `sqrt` and sums of two arrays round once;
- `add(alpha=)`, `addcmul` and `lerp` end in one fused multiply-add;
- a Python number is rounded once, from double precision to the type of the array;
- bfloat16 and float16 are computed in float32 and rounded at the end of every operation;
- a complex number is a pair of real ones: torch's optimizers call `view_as_real`.

XLA contracts `s * x + y` into a fused multiply-add by itself, which is right for `add` and wrong
for `mul`; it also replaces quotients by products with reciprocals. `pinned` prevents both.

Source: torch 2.13.0 for CPU; `tests/test_rounding.py` holds every function against it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from torchwise.numbers import Scalar, is_array
from torchwise.pinning import beside, pin

_HALF_TYPES = (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float16))


class Quotient(NamedTuple):
    """A quotient that is not evaluated yet: torch multiplies by the step size before it divides."""

    numerator: jax.Array
    denominator: jax.Array


def pinned(x: Any, summand: Any = None) -> Any:
    """Return `x`, hidden from the compiler: it does not merge operations across this point.

    XLA contracts product and sum to one fused multiply-add. Where torch rounds the product, it is
    pinned. Where torch has a fused multiply-add, a factor is pinned.

    Args:
        x: an array; a Python number is returned as it is.
        summand: what the product with this factor is added to, or a number is divided by it. A
            factor that is the same for many sums is then read for each of them.
    """
    if not isinstance(x, jax.Array):
        return x
    if jnp.iscomplexobj(x):
        return lax.complex(pinned(x.real), pinned(x.imag))
    if summand is None or jax.typeof(summand) != jax.typeof(x):
        return pin(x)
    return beside(x, summand)


def after(x: jax.Array, other: jax.Array) -> jax.Array:
    """Return `x` so that XLA has to read `other` for it, which it then cannot overwrite before.

    The arms of the selection are no constants, and the compiler cannot prove that `x` is no NaN.
    """
    if jnp.iscomplexobj(x):
        return lax.complex(after(x.real, other.real), after(x.imag, other.imag))
    return jnp.where(x == x, x, x + other)


def materialized(x: jax.Array) -> jax.Array:
    """Return `x`, of which XLA makes one array before it adds up the elements.

    On CPU, XLA hands sums to a library, with what leads to them, and makes an array of each number
    in it. The library takes no selections.
    """
    return after(x, x)


def _by_parts(function: Callable[..., Any]) -> Callable[..., Any]:
    """Apply a function to the real and the imaginary parts of its complex arrays."""

    @functools.wraps(function)
    def wrapper(x: Any, *arrays: Any, **numbers: Any) -> Any:
        if not jnp.iscomplexobj(x):
            return function(x, *arrays, **numbers)
        parts = (
            function(*(_part(array, name) for array in (x, *arrays)), **numbers)
            for name in ("real", "imag")
        )
        return lax.complex(*parts)

    return wrapper


def _part(value: Any, name: str) -> Any:
    return getattr(value, name) if jnp.iscomplexobj(value) else value


@_by_parts
def mul(x: jax.Array, other: Any) -> jax.Array:
    """`x.mul(other)` for a number or an array: rounded by itself, whatever is added to it later."""
    wide = _wide(x)
    return pinned(wide * _operand(other, wide)).astype(x.dtype)


@_by_parts
def sub(x: jax.Array, other: jax.Array) -> jax.Array:
    """`x.sub(other)`."""
    return (_wide(x) - _wide(other)).astype(x.dtype)


@_by_parts
def div(x: jax.Array, other: Any) -> jax.Array:
    """`x.div(other)`: a true quotient. XLA would multiply by the reciprocal of a number.

    Both are pinned: XLA would turn a quotient of quotients into one of products.
    """
    wide = _wide(x)
    return (pinned(wide) / _divisor(other, wide)).astype(x.dtype)


@_by_parts
def add(x: jax.Array, other: Any, alpha: Scalar | None = None) -> jax.Array:
    """`x.add(other, alpha=alpha)`: one rounding, with `alpha` as a fused multiply-add.

    A number `other`, and `alpha`, are rounded to the type of `x` first, also to a half type.
    """
    wide = _wide(x)
    if alpha is None and not _is_tensor(other):
        # Behind the barrier XLA does not know the number: it would add two of them first.
        rounded = _wide(jnp.asarray(_constant(other, x.dtype)))
        shifted = pinned(wide) if _is_zero(other) else wide + lax.optimization_barrier(rounded)
        return shifted.astype(x.dtype)
    if alpha is None:
        return (wide + _wide(other)).astype(x.dtype)
    factor = _wide(_constant(alpha, x.dtype))
    return (wide + factor * pinned(_wide(other), wide)).astype(x.dtype)


@_by_parts
def addcmul(x: jax.Array, first: jax.Array, second: jax.Array, value: Scalar = 1) -> jax.Array:
    """`x.addcmul(first, second, value=value)`: `value * first` rounds, then a multiply-add."""
    wide = _wide(x)
    if _is_one(value) and first is second:
        factor = pinned(_wide(first), wide)
        return (wide + factor * factor).astype(x.dtype)
    scaled = _wide(first) if _is_one(value) else _wide(first) * _constant(value, wide.dtype)
    return (wide + pinned(scaled, wide) * pinned(_wide(second))).astype(x.dtype)


@_by_parts
def addcdiv(
    x: jax.Array, numerator: jax.Array, denominator: jax.Array, value: Scalar = 1
) -> jax.Array:
    """`x.addcdiv(numerator, denominator, value=value)`: product, quotient and sum round each."""
    wide = _wide(x)
    scaled = _wide(numerator) * _constant(value, wide.dtype)
    divided = pinned(scaled) if _is_one(value) else scaled  # else a product, which is no quotient
    return (wide + divided / pinned(_wide(denominator), scaled)).astype(x.dtype)


@_by_parts
def lerp(x: jax.Array, end: jax.Array, weight: Scalar) -> jax.Array:
    """`x.lerp(end, weight)`: from 0.5 on, torch starts at `end` and goes back."""
    wide, target = _wide(x), _wide(end)
    near = pinned(_constant(weight, wide.dtype)) if is_array(weight) else None
    apart = pinned(target - wide)
    if near is None:
        rounded = _constant(weight, wide.dtype)
        if rounded < 0.5:
            return (wide + rounded * apart).astype(x.dtype)
        return (target + (rounded - 1) * apart).astype(x.dtype)
    close = near < 0.5
    base = jnp.where(close, wide, target)
    return (base + jnp.where(close, near, pinned(near - 1)) * apart).astype(x.dtype)


@_by_parts
def sqrt(x: jax.Array) -> jax.Array:
    """`x.sqrt()`, correctly rounded; torch's own is not on every processor.

    Pinned: XLA would turn a quotient by a root into a product with `rsqrt`.
    """
    return pinned(lax.sqrt(_wide(x))).astype(x.dtype)


@_by_parts
def rsqrt(x: jax.Array) -> jax.Array:
    """`x.rsqrt()`: the root rounds, then its reciprocal."""
    root = pinned(lax.sqrt(_wide(x)))
    return (jnp.ones_like(root) / root).astype(x.dtype)


@_by_parts
def reciprocal(x: jax.Array) -> jax.Array:
    """`x.reciprocal()`, correctly rounded."""
    wide = pinned(_wide(x))
    return (jnp.ones_like(wide) / wide).astype(x.dtype)


@_by_parts
def maximum(x: jax.Array, other: jax.Array) -> jax.Array:
    """`x.maximum(other)`: NaN where either is."""
    return jnp.maximum(x, other)


@_by_parts
def clamp(x: jax.Array, least: Scalar, largest: Scalar | None = None) -> jax.Array:
    """`x.clamp(least, largest)`: NaN stays."""
    wide = jnp.maximum(_wide(x), _constant(least, _wide(x).dtype))
    if largest is not None:
        wide = jnp.minimum(wide, _constant(largest, wide.dtype))
    return wide.astype(x.dtype)


@_by_parts
def sign(x: jax.Array) -> jax.Array:
    """`x.sign()`: +0.0 for NaN and for both zeros, unlike JAX's."""
    zero = jnp.zeros_like(x)
    return (x > zero).astype(x.dtype) - (x < zero).astype(x.dtype)


@_by_parts
def by_sign(x: jax.Array, positive: Scalar, negative: Scalar, zero: Scalar) -> jax.Array:
    """Return three numbers by the sign of `x`, each rounded to its type; `zero` also for NaN."""
    numbers = (_constant(value, x.dtype) for value in (positive, negative, zero))
    above, below, neither = (jnp.full_like(x, value) for value in numbers)
    return jnp.where(x > 0, above, jnp.where(x < 0, below, neither))


@_by_parts
def zeroed(x: jax.Array, other: jax.Array, value: Scalar) -> jax.Array:
    """`x.masked_fill(other.eq(value), 0)`: the number is rounded to the type of `other`."""
    zero = other == _constant(value, other.dtype)
    return jnp.where(_placed(zero, x), jnp.zeros_like(x), x)


def select(condition: Any, x: jax.Array, other: jax.Array) -> jax.Array:
    """Return `x` where a number is not zero, else `other`, which has the place of `x` then."""
    chosen = condition.astype(bool) if isinstance(condition, jax.Array) else bool(condition)
    return jnp.where(chosen, x, _placed(other, x))


@_by_parts
def abs(x: jax.Array) -> jax.Array:
    """`x.abs()`; of a complex number, of each part."""
    return jnp.abs(x)


@_by_parts
def neg(x: jax.Array) -> jax.Array:
    """`x.neg()`."""
    return -x


@_by_parts
def square(x: jax.Array) -> jax.Array:
    """`x.square()`, rounded by itself."""
    return mul(x, x)


def norm(x: jax.Array, axis: int | None = None) -> jax.Array:
    """`x.norm(dim=axis, keepdim=axis is not None)`: XLA's order of the sum, not torch's.

    Pinned: XLA would take the square of a root for what is under it.
    """
    parts = (x.real, x.imag) if jnp.iscomplexobj(x) else (_wide(x),)
    squares = [jnp.sum(part * part, axis=axis, keepdims=axis is not None) for part in parts]
    return pinned(lax.sqrt(sum(squares[1:], start=squares[0]))).astype(jnp.finfo(x.dtype).dtype)


def mean(x: jax.Array, axis: int) -> jax.Array:
    """`x.mean(dim=axis, keepdim=True)`: XLA's order of the sum, not torch's."""
    wide = _wide(x)
    return div(jnp.sum(wide, axis=axis, keepdims=True), x.shape[axis]).astype(x.dtype)


def matmul(x: jax.Array, other: jax.Array) -> jax.Array:
    """`x @ other`, with sums in float32 for the half types; XLA's order of the sums."""
    wide = _wide(x)
    product = jnp.matmul(wide, _wide(other), precision=lax.Precision.HIGHEST)
    return product.astype(x.dtype)


def addmm(
    x: jax.Array, first: jax.Array, second: jax.Array, beta: Scalar, alpha: Scalar = 1
) -> jax.Array:
    """`torch.addmm(x, first, second, beta=beta, alpha=alpha)`, rounded once to a half type."""
    wide = _wide(x)
    product = jnp.matmul(_wide(first), _wide(second), precision=lax.Precision.HIGHEST)
    scaled = product if _is_one(alpha) else product * _constant(alpha, wide.dtype)
    return (wide * _constant(beta, wide.dtype) + scaled).astype(x.dtype)


def full_like(x: jax.Array, value: Scalar) -> jax.Array:
    """Return an array like `x`, filled with `value` (where complex, in both parts)."""
    if jnp.iscomplexobj(x):
        return lax.complex(full_like(x.real, value), full_like(x.imag, value))
    return jnp.full_like(x, value)


def evaluated(direction: Any) -> jax.Array:
    """Return a direction as an array: a quotient is divided."""
    return div(*direction) if isinstance(direction, Quotient) else direction


def _wide(x: jax.Array) -> jax.Array:
    """The type that torch computes in: float32 for the half types, else the array's own."""
    return x.astype(jnp.float32) if x.dtype in _HALF_TYPES else x


def _constant(value: Any, dtype: Any) -> Any:
    """A hyperparameter, rounded once from double precision to a type."""
    return value.astype(dtype) if isinstance(value, jax.Array) else np.asarray(value, dtype)[()]


def _operand(other: Any, wide: jax.Array) -> Any:
    return _wide(other) if _is_tensor(other) else _constant(other, wide.dtype)


def _divisor(other: Any, wide: jax.Array) -> Any:
    """What to divide by; a number, or one per row, becomes an array as far as XLA knows.

    XLA would turn the quotient by a number, constant or not, into a product with its reciprocal.
    """
    if _is_tensor(other) and other.shape == wide.shape:
        return pinned(_wide(other), wide)
    number = _wide(other) if _is_tensor(other) else _constant(other, wide.dtype)
    return jnp.where(wide == wide, number, wide)


def _is_tensor(value: Any) -> bool:
    """Whether an operand is more than a number; for two 0-d arrays of one type it is the same."""
    return isinstance(value, jax.Array) and value.ndim > 0


def _is_zero(value: Any) -> bool:
    return not is_array(value) and value == 0


def _is_one(value: Any) -> bool:
    return not is_array(value) and value == 1


def _placed(x: jax.Array, like: jax.Array) -> jax.Array:
    """Bring an array to the explicit devices of another."""
    return x if _sharding(x) == _sharding(like) else jax.sharding.reshard(x, _sharding(like))


def _sharding(x: jax.Array) -> Any:
    return getattr(jax.typeof(x), "sharding", None)
