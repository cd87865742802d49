"""torch's tensor arithmetic with torch's roundings, under XLA.

An optimizer equals torch to the bit when each line rounds where torch rounds. On CPUs with FMA

- `x.mul(s)` rounds the product, whatever is added to it later;
- `x.add(y, alpha=s)` is one fused multiply-add, after `s` was rounded to the tensor's type;
- bfloat16 and float16 are computed in float32 and rounded at the end of every operation.

XLA contracts `s * x + y` into a fused multiply-add by itself, which is right for `add` and wrong
for `mul`; `mul` therefore hides its product from that contraction.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from torchwise.transforms.numbers import Scalar, pinned

_HALF_TYPES = (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float16))


class Scaled(NamedTuple):
    """`factor * numerator / denominator`, evaluated left to right but not yet.

    torch's last line is `param.add_(d, alpha=-lr)` or `param.addcdiv_(n, d, value=-lr)`: the step
    size is multiplied in before the division and the sum is rounded once. So a quotient and a
    scaled direction travel along the chain unevaluated until its end.
    """

    numerator: jax.Array
    denominator: jax.Array | None = None
    factor: Scalar | None = None


def mul(x: jax.Array, scalar: Scalar) -> jax.Array:
    """`x.mul(scalar)`: the product is rounded by itself, whatever is added to it later."""
    wide = _wide(x)
    return pinned(wide * _constant(scalar, wide.dtype)).astype(x.dtype)


def add(x: jax.Array, y: jax.Array, alpha: Scalar | None = None) -> jax.Array:
    """`x.add(y, alpha=alpha)`: one rounding, as a fused multiply-add."""
    if alpha is None:
        return (_wide(x) + _wide(y)).astype(x.dtype)
    wide, factor = _wide(x), _wide(_constant(alpha, x.dtype))
    return (wide + factor * pinned(_wide(y), beside=wide)).astype(x.dtype)


def add_square(x: jax.Array, y: jax.Array) -> jax.Array:
    """`x.addcmul(y, y)`: one rounding, as a fused multiply-add; complex numbers by components."""
    if jnp.iscomplexobj(x):
        return lax.complex(add_square(x.real, y.real), add_square(x.imag, y.imag))
    base = _wide(x)
    factor = pinned(_wide(y), beside=base, nan=_round)
    return (base + factor * factor).astype(x.dtype)


def sqrt_add(x: jax.Array, eps: Scalar) -> jax.Array:
    """`x.sqrt().add(eps)`, each correctly rounded; complex numbers by components."""
    if jnp.iscomplexobj(x):
        return lax.complex(sqrt_add(x.real, eps), sqrt_add(x.imag, eps))
    root = _wide(lax.sqrt(_wide(x)).astype(x.dtype))
    return (root + _constant(eps, root.dtype)).astype(x.dtype)


def scaled(direction: Any, factor: Scalar) -> Scaled:
    """Multiply a direction by a number, to be evaluated later."""
    if isinstance(direction, Scaled) and direction.factor is None:
        return direction._replace(factor=factor)
    return Scaled(settle(direction), factor=factor)


def settle(direction: Any) -> jax.Array:
    """Evaluate a direction that the next transform needs as an array."""
    if not isinstance(direction, Scaled):
        return direction
    if direction.denominator is None and direction.factor is not None:
        return mul(direction.numerator, direction.factor)
    return _quotient(direction).astype(direction.numerator.dtype)


def increment(direction: Any, param: jax.Array) -> jax.Array:
    """Evaluate the direction at the end of the chain, where it is added to `param` in one FMA."""
    if not isinstance(direction, Scaled):
        return direction
    numerator, denominator, factor = direction
    if denominator is None and factor is not None:
        alpha = _wide(_constant(factor, numerator.dtype))
        return (alpha * pinned(_wide(numerator), beside=_wide(param))).astype(numerator.dtype)
    return _quotient(direction).astype(numerator.dtype)


def constant_like(x: jax.Array, value: Scalar) -> jax.Array:
    """Return an array like `x`, filled with `value` (where complex, in both parts)."""
    if jnp.iscomplexobj(x):
        return lax.complex(constant_like(x.real, value), constant_like(x.imag, value))
    return jnp.full_like(x, value)


def _round(x: jax.Array) -> jax.Array:
    """Where nothing but NaN is rounded this changes nothing but XLA's choice of loops on CPU.

    A mere product and sum it runs through row by row, in 3 x 3 kernels three numbers at a time;
    beside an operation such as rounding it does not: see Adagrad on ResNet-50 in the benchmarks.
    """
    return lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN)


def _quotient(direction: Scaled) -> jax.Array:
    numerator, denominator, factor = direction
    if denominator is not None and jnp.iscomplexobj(numerator):
        real = Scaled(numerator.real, denominator.real, factor)
        imag = Scaled(numerator.imag, denominator.imag, factor)
        return lax.complex(_quotient(real), _quotient(imag))
    wide = _wide(numerator)
    if factor is not None:
        wide = wide * _constant(factor, wide.dtype)
    return wide if denominator is None else wide / _wide(denominator)


def _wide(x: jax.Array) -> jax.Array:
    """The type torch computes in: float32 for the half types, else the array's own."""
    return x.astype(jnp.float32) if x.dtype in _HALF_TYPES else x


def _constant(value: Scalar, dtype: Any) -> jax.Array:
    """A hyperparameter, rounded once from double to the array's type."""
    return value.astype(dtype) if isinstance(value, jax.Array) else jnp.asarray(value, dtype)
