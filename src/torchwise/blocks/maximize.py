"""Ascend instead of descend."""

from typing import Any, ClassVar, Self

import jax

from torchwise.rounding import neg
from torchwise.rule import Block
from torchwise.transformation import Chain, chain


class Maximize(Block):
    """-grad."""

    in_torch: ClassVar = ("maximize",)
    in_strips: ClassVar[bool] = True
    maximize: ClassVar[bool] = True

    def for_gradient(self, sparse: bool) -> Self:
        return self

    def direction(self, grad: jax.Array, state: Any, param: jax.Array, n: Any) -> jax.Array:
        return neg(grad)


def maximize() -> Chain:
    """Negate the gradient, so that what follows ascends. Stands first, before weight decay.

    Source: the line `if maximize: g_t = -grad f(theta_{t-1})` of the algorithm on torch's SGD page.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.chain(torchwise.maximize(), torchwise.scale_by_learning_rate(0.5))
        >>> transform.step(jnp.ones(1), transform.init(jnp.ones(1)), jnp.ones(1))[0]
        Array([1.5], dtype=float32)
    """
    return chain(Maximize())
