"""A constant factor."""

from typing import Any, ClassVar, Self

import jax

from torchwise.numbers import Scalar
from torchwise.rounding import mul
from torchwise.rule import Block
from torchwise.transformation import Chain, block_chain


class Scale(Block):
    """factor * grad."""

    in_strips: ClassVar[bool] = True

    factor: Scalar

    def for_gradient(self, sparse: bool) -> Self:
        return self

    def numbers(self, step: None) -> Scalar:
        return self.factor

    def direction(self, grad: jax.Array, state: Any, param: jax.Array, n: Any) -> jax.Array:
        return mul(grad, n)


def scale(factor: Scalar) -> Chain:
    """Multiply each gradient by a number.

    Args:
        factor: any number or 0-d array; `1 / k` makes a sum over k micro batches their mean.

    Source: the argument `scale` of `dragon.vm.torch.optim.SGD`.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> block = torchwise.scale(1 / 4)
        >>> block.update(jnp.ones(1), block.init(jnp.ones(1)), jnp.ones(1))[0]
        Array([0.25], dtype=float32)
    """
    return block_chain(Scale(factor), "scale")
