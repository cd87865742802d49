"""Dragon's momentum: the learning rate of each step is inside the buffer."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from torchwise.transforms.arithmetic import add, constant_like, mul
from torchwise.transforms.chain import Chain, chain
from torchwise.transforms.learning_rate import ScaleByLearningRate, ScaleBySchedule
from torchwise.transforms.numbers import Scalar, Schedule
from torchwise.transforms.transform import Transform


class TraceWithLrState(NamedTuple):
    """Dragon's `m`: gradients times their own rates, like the parameter in shape and type.

    It is not torch's `momentum_buffer`, which knows no learning rate, and must not bear its name.
    """

    velocity: Any


class CorrectedTraceWithLrState(NamedTuple):
    """The velocity, and the rate it is meant for.

    Attributes:
        velocity: `last_lr` times torch's momentum buffer, like the parameter in shape and type.
        last_lr: the last learning rate that was not zero, 1 before there was one; 0-d, float64 for
            parameters in double precision and float32 for all others.
    """

    velocity: Any
    last_lr: Any


class TraceWithLrScalars(NamedTuple):
    """The weights of the old velocity and of the new gradient."""

    momentum: Scalar
    lr: Scalar


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TraceWithLr(Transform):
    """velocity = momentum * velocity + lr * grad; the parameter moves by -velocity."""

    rate: ScaleByLearningRate | ScaleBySchedule
    momentum: Scalar
    nesterov: bool = dataclasses.field(metadata={"static": True})

    @property
    def counts(self) -> bool:
        """Only a schedule depends on the step."""
        return self.rate.counts

    def init(self, param: jax.Array) -> TraceWithLrState:
        """A velocity of -0.0: with it the first one is `lr * grad`, to the bit."""
        return TraceWithLrState(velocity=constant_like(param, -0.0))

    def scalars(self, step: Any) -> TraceWithLrScalars:
        """Momentum and the rate of this step."""
        return TraceWithLrScalars(self.momentum, -self.rate.scalars(step))

    def accumulate(
        self, grad: jax.Array, state: TraceWithLrState, param: jax.Array, scalars: Any
    ) -> TraceWithLrState:
        """The velocity decays and takes up the gradient times the rate."""
        faded = mul(state.velocity, scalars.momentum)
        return TraceWithLrState(velocity=add(faded, mul(grad, scalars.lr)))

    def direction(
        self, grad: jax.Array, state: TraceWithLrState, param: jax.Array, scalars: Any
    ) -> jax.Array:
        """Minus the velocity, or Nesterov's look ahead along it."""
        return -_ahead(grad, state.velocity, scalars) if self.nesterov else -state.velocity


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CorrectedTraceWithLr(Transform):
    """velocity = momentum * (lr / last_lr) * velocity + lr * grad; -velocity.

    At a rate of zero the parameter stays, and the velocity goes on at `last_lr`, as torch's
    momentum buffer would.
    """

    rate: ScaleByLearningRate | ScaleBySchedule
    momentum: Scalar
    nesterov: bool = dataclasses.field(metadata={"static": True})

    @property
    def counts(self) -> bool:
        """Only a schedule depends on the step."""
        return self.rate.counts

    def init(self, param: jax.Array) -> CorrectedTraceWithLrState:
        """No velocity, at a rate of 1."""
        wide = param.dtype in (jnp.dtype(jnp.float64), jnp.dtype(jnp.complex128))
        last_lr = jnp.ones((), jnp.float64 if wide else jnp.float32)
        return CorrectedTraceWithLrState(constant_like(param, -0.0), last_lr)

    def scalars(self, step: Any) -> TraceWithLrScalars:
        """Momentum and the rate of this step."""
        return TraceWithLrScalars(self.momentum, -self.rate.scalars(step))

    def accumulate(
        self, grad: jax.Array, state: CorrectedTraceWithLrState, param: jax.Array, scalars: Any
    ) -> CorrectedTraceWithLrState:
        """The velocity is brought to the new rate, decays and takes up the gradient."""
        lr = _rounded(scalars.lr, param, state.last_lr)
        last_lr = jnp.where(lr == 0, state.last_lr, lr)
        momentum = constant_like(last_lr, scalars.momentum) * (last_lr / state.last_lr)
        faded = mul(state.velocity, momentum)
        return CorrectedTraceWithLrState(add(faded, mul(grad, last_lr)), last_lr)

    def direction(
        self, grad: jax.Array, state: CorrectedTraceWithLrState, param: jax.Array, scalars: Any
    ) -> jax.Array:
        """Minus the velocity, or Nesterov's look ahead along it; nothing at a rate of zero."""
        move = _ahead(grad, state.velocity, scalars) if self.nesterov else state.velocity
        return -jnp.where(_rounded(scalars.lr, param, state.last_lr) == 0, 0, move)


def trace_with_lr(
    lr: Scalar | Schedule, momentum: Scalar, nesterov: bool = False, correction: bool = False
) -> Chain:
    """Accumulate gradients times their learning rates, and move by minus the sum. Stands last.

    After a change of the rate, the older gradients go on at their own rates; torch's momentum gives
    them the new one, and so does this one with `correction`. Under a constant rate the three are
    one. Nesterov's `(1 + momentum) * velocity - momentum * old_velocity` is computed as its equal
    `momentum * velocity + lr * grad`, which needs no old velocity and rounds less.

    Args:
        lr: a number, a 0-d array, or a schedule `count -> lr`, where count is 0 at each parameter's
            first gradient.
        momentum: the weight of the old velocity, a number or a 0-d array.
        nesterov: look ahead along the new velocity.
        correction: multiply the old velocity by the ratio of the new rate to the old one. The state
            gets a field `last_lr`, the last rate other than zero.

    Source: the formulas on Dragon's SGD page; the correction is equation (10) of Goyal et al.,
    arXiv:1706.02677 (2017).

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> block = torchwise.trace_with_lr(0.5, momentum=0.5)
        >>> param, grad = jnp.zeros(1), jnp.ones(1)
        >>> _, state = block.update(grad, block.init(param), param)
        >>> updates, state = block.update(grad, state, param)
        >>> updates, state.states[0].velocity
        (Array([-0.75], dtype=float32), Array([0.75], dtype=float32))
    """
    rate = ScaleBySchedule(lr, None) if callable(lr) else ScaleByLearningRate(lr, None)
    kind = CorrectedTraceWithLr if correction else TraceWithLr
    return chain(kind(rate, momentum, nesterov))


def _ahead(grad: jax.Array, velocity: jax.Array, scalars: TraceWithLrScalars) -> jax.Array:
    """Nesterov's move: one more step of the same momentum, from the same gradient."""
    return add(mul(grad, scalars.lr), velocity, alpha=scalars.momentum)


def _rounded(lr: Scalar, param: jax.Array, like: jax.Array) -> jax.Array:
    """The rate as it is multiplied into the gradient: rounded to the parameter's own type."""
    return jnp.full_like(param.real, lr, shape=()).astype(like.dtype)
