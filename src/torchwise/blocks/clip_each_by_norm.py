"""Gradients no longer than a given norm, array by array."""

from typing import Any, Self

import jax
import jax.numpy as jnp

from torchwise.numbers import Scalar
from torchwise.rounding import full_like, mul
from torchwise.rule import Block
from torchwise.transformation import Chain, block_chain


class ClipEachByNorm(Block):
    """grad * (max_norm / norm(grad)) if norm(grad) > max_norm > 0, else grad."""

    max_norm: Scalar

    def for_gradient(self, sparse: bool) -> Self:
        return self

    def numbers(self, step: None) -> Scalar:
        return self.max_norm

    def direction(self, grad: jax.Array, state: Any, param: jax.Array, n: Any) -> jax.Array:
        """Shorten the gradient if it is longer. Times 1 is exact, also for NaN."""
        norm = _norm(grad)
        bound = full_like(norm, n)
        clips = (norm > bound) & (bound > 0)
        # Where nothing is clipped, no quotient is differentiated: over a norm of zero, it has none.
        return mul(grad, jnp.where(clips, bound / jnp.where(clips, norm, 1), 1))


def clip_each_by_norm(max_norm: Scalar) -> Chain:
    """Shorten every array whose L2 norm is greater than `max_norm` to that norm.

    Each array has its own norm; there is no epsilon. A norm that is NaN changes nothing, an
    infinite one turns finite elements into 0 and infinite ones into NaN.

    Args:
        max_norm: in the gradient's unit, a number or a 0-d array; zero and less never clip.

    Source: the argument `clip_norm` of `dragon.vm.torch.optim.SGD`.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> block, param = torchwise.clip_each_by_norm(1.0), jnp.zeros(2)
        >>> block.update(jnp.array([0.0, 8.0]), block.init(param), param)[0]
        Array([0., 1.], dtype=float32)
    """
    return block_chain(ClipEachByNorm(max_norm), "clip_each_by_norm")


def _norm(x: jax.Array) -> jax.Array:
    """Return the root of the sum of squares; float16 and bfloat16 are summed in float32."""
    if jnp.iscomplexobj(x):
        real, imag = _norm(x.real), _norm(x.imag)
        some = (real != 0) | (imag != 0)
        return jnp.where(some, jnp.hypot(jnp.where(some, real, 1), imag), 0)
    wide = x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x
    squares = jnp.sum(jnp.square(wide))
    some = squares != 0  # at zero a root has no slope, but the norm of no gradient is constant
    return jnp.where(some, jnp.sqrt(jnp.where(some, squares, 1)), 0)
