"""L2 weight decay, added to the gradient."""

import dataclasses
from typing import Any

import jax

from torchwise.transforms.arithmetic import add
from torchwise.transforms.chain import Chain, chain
from torchwise.transforms.numbers import Scalar
from torchwise.transforms.transform import Empty, Stateless


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AddDecayedWeights(Stateless):
    """grad + weight_decay * param."""

    weight_decay: Scalar

    @property
    def counts(self) -> bool:
        """False: the decay does not depend on the step."""
        return False

    def scalars(self, step: None) -> Scalar:
        """The weight decay."""
        return self.weight_decay

    def direction(self, grad: jax.Array, state: Empty, param: jax.Array, scalars: Any) -> jax.Array:
        """The decayed gradient."""
        return add(grad, param, alpha=scalars)


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
    return chain(AddDecayedWeights(weight_decay))
