"""The step size: a number, torch's lr decay, or a schedule."""

import dataclasses
from typing import Any

import jax

from torchwise.transforms.chain import Chain, chain
from torchwise.transforms.numbers import Scalar, Schedule, absent_if_zero, double, pinned
from torchwise.transforms.transform import Scaling


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ScaleByLearningRate(Scaling):
    """-lr / (1 + (step - 1) * lr_decay) * grad."""

    lr: Scalar
    lr_decay: Scalar | None

    @property
    def counts(self) -> bool:
        """Only a decaying rate depends on the step."""
        return self.lr_decay is not None

    def scalars(self, step: Any) -> Scalar:
        """The negated rate of this step."""
        if self.lr_decay is None:
            return -self.lr
        return -self.lr / (1 + pinned(double(step - 1) * self.lr_decay))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ScaleBySchedule(Scaling):
    """-schedule(step - 1) / (1 + (step - 1) * lr_decay) * grad."""

    schedule: Schedule = dataclasses.field(metadata={"static": True})
    lr_decay: Scalar | None

    @property
    def counts(self) -> bool:
        """A schedule is a function of the step."""
        return True

    def scalars(self, step: Any) -> Scalar:
        """The negated rate of this step; schedules count from 0."""
        return ScaleByLearningRate(double(self.schedule(step - 1)), self.lr_decay).scalars(step)


def scale_by_learning_rate(lr: Scalar | Schedule, lr_decay: Scalar = 0.0) -> Chain:
    """Multiply by minus the learning rate, so that adding the result descends. Stands last.

    Args:
        lr: a number, a 0-d array, or a schedule `count -> lr`, where count is 0 at each
            parameter's first gradient.
        lr_decay: divides the rate by `1 + (t - 1) * lr_decay` at a parameter's t-th gradient.

    Source: `lr / (1 + (t - 1) * eta)` on torch's Adagrad page.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> block, param = torchwise.scale_by_learning_rate(lambda count: 0.5**count), jnp.zeros(1)
        >>> first, state = block.update(jnp.ones(1), block.init(param), param)
        >>> second, state = block.update(jnp.ones(1), state, param)
        >>> first, second
        (Array([-1.], dtype=float32), Array([-0.5], dtype=float32))
    """
    if callable(lr):
        return chain(ScaleBySchedule(lr, absent_if_zero(lr_decay)))
    return chain(ScaleByLearningRate(lr, absent_if_zero(lr_decay)))
