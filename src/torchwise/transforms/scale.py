"""Gradients times a number, such as one over a loss scale."""

import dataclasses
from typing import Any

import jax

from torchwise.transforms.arithmetic import mul
from torchwise.transforms.chain import Chain, chain
from torchwise.transforms.numbers import Scalar
from torchwise.transforms.transform import Empty, Stateless


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scale(Stateless):
    """factor * grad, rounded: unlike a `Scaling`, it is no part of what follows."""

    factor: Scalar

    @property
    def counts(self) -> bool:
        """False: the factor does not depend on the step."""
        return False

    def scalars(self, step: None) -> Scalar:
        """The factor."""
        return self.factor

    def direction(self, grad: jax.Array, state: Empty, param: jax.Array, scalars: Any) -> jax.Array:
        """The product, rounded by itself, whatever is added to it later."""
        return mul(grad, scalars)


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
    return chain(Scale(factor))
