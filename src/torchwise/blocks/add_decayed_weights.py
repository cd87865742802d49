"""L2 weight decay, added to the gradient."""

from typing import Any, ClassVar, Self

import jax

from torchwise.numbers import Scalar
from torchwise.rounding import add
from torchwise.rule import Block
from torchwise.transformation import Chain, block_chain


class AddDecayedWeights(Block):
    """grad + weight_decay * param."""

    in_torch: ClassVar = ("weight_decay",)
    in_strips: ClassVar[bool] = True

    weight_decay: Scalar

    def for_gradient(self, sparse: bool) -> Self:
        if sparse:
            message = "weight_decay option is not compatible with sparse gradients"
            raise RuntimeError(message)
        return self

    def numbers(self, step: None) -> Scalar:
        return self.weight_decay

    def direction(self, grad: jax.Array, state: Any, param: jax.Array, n: Any) -> jax.Array:
        return add(grad, param, alpha=n)


def add_decayed_weights(weight_decay: Scalar) -> Chain:
    """Add `weight_decay` times the parameter to the gradient: L2 decay, as in `torch.optim.SGD`.

    Args:
        weight_decay: the factor, a number or a 0-d array.

    Source: the line `g_t + lambda * theta_{t-1}` of the algorithm on torch's SGD page.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> block = torchwise.add_decayed_weights(0.5)
        >>> updates, _ = block.update(jnp.ones(2), block.init(jnp.ones(2)), jnp.array([2.0, 4.0]))
        >>> updates
        Array([2., 3.], dtype=float32)
    """
    return block_chain(AddDecayedWeights(weight_decay), "add_decayed_weights")
