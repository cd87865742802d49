"""The smallest rule: a step along the gradient."""

from typing import Any, ClassVar, Self

import jax

from torchwise.fields import term
from torchwise.numbers import Scalar, Schedule, double
from torchwise.rounding import Quotient, add, addcdiv, pinned
from torchwise.rule import Rule
from torchwise.transformation import Chain, chain


class ScaleByLearningRate(Rule):
    """param - lr / (1 + (step - 1) * lr_decay) * grad."""

    in_torch: ClassVar = ("lr", "lr_decay")
    in_strips: ClassVar[bool] = True
    divides: ClassVar[bool] = True

    lr: Any  # a number or a schedule; in `numbers` it is a number
    lr_decay: Scalar = term(default=0.0)

    @property
    def counts(self) -> bool:
        return self.has("lr_decay")

    def for_gradient(self, sparse: bool) -> Self:
        return self

    def numbers(self, step: Any) -> Scalar:
        if not self.has("lr_decay"):
            return -self.lr
        return -self.lr / (1 + pinned(double(step - 1) * self.lr_decay))

    def move(self, base: jax.Array, grad: Any, state: Any, param: jax.Array, n: Any) -> jax.Array:
        if isinstance(grad, Quotient):
            return addcdiv(base, *grad, value=n)
        return add(base, grad, alpha=n)


def scale_by_learning_rate(lr: Scalar | Schedule, lr_decay: Scalar = 0.0) -> Chain:
    """Move by minus the learning rate times the gradient. Stands last.

    Args:
        lr: a number, a 0-d array, or a schedule `count -> lr`, where count is 0 at the first
            gradient.
        lr_decay: divides the rate by `1 + (t - 1) * lr_decay` at the t-th gradient.

    Source: `lr / (1 + (t - 1) * eta)` on torch's Adagrad page.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> block, param = torchwise.scale_by_learning_rate(lambda count: 0.5**count), jnp.zeros(1)
        >>> first, state = block.update(jnp.ones(1), block.init(param), param)
        >>> second, state = block.update(jnp.ones(1), state, param)
        >>> first, second
        (Array([-1.], dtype=float32), Array([-0.5], dtype=float32))
    """
    return chain(ScaleByLearningRate(lr, lr_decay))
