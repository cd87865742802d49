"""Dragon's momentum: the learning rate of each step is inside the buffer."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from torchwise.numbers import Scalar, Schedule
from torchwise.placement import varying_like
from torchwise.rounding import add, div, full_like, mul, neg
from torchwise.rule import Rule
from torchwise.transformation import Chain, chain


class TraceWithLrState(NamedTuple):
    """Dragon's `m`: gradients times their own rates, like the parameter in shape and type.

    It is not torch's `momentum_buffer`, which knows no learning rate, and must not bear its name.
    """

    velocity: Any


class CorrectedTraceWithLrState(NamedTuple):
    """The velocity, and the rate that it is meant for.

    Attributes:
        velocity: `last_lr` times torch's momentum buffer, like the parameter in shape and type.
        last_lr: the last learning rate that was not zero, 1 before there was one; 0-d, float64 for
            parameters in double precision and float32 for all others.
    """

    velocity: Any
    last_lr: Any


class TraceWithLrNumbers(NamedTuple):
    """The weights of the old velocity and of the new gradient."""

    momentum: Scalar
    lr: Any


class TraceWithLr(Rule):
    """velocity = momentum * velocity + lr * grad; param - velocity."""

    State: ClassVar = TraceWithLrState
    in_strips: ClassVar[bool] = True

    lr: Scalar | Schedule
    momentum: Scalar
    nesterov: bool = False

    def init(self, param: jax.Array) -> TraceWithLrState:
        """A velocity of -0.0: with it the first one is `lr * grad`, to the bit."""
        return TraceWithLrState(full_like(param, -0.0))

    def numbers(self, step: Any) -> TraceWithLrNumbers:
        return TraceWithLrNumbers(self.momentum, self.lr)

    def accumulate(
        self, grad: jax.Array, state: TraceWithLrState, param: jax.Array, n: TraceWithLrNumbers
    ) -> TraceWithLrState:
        return TraceWithLrState(add(mul(state.velocity, n.momentum), mul(grad, n.lr)))

    def move(
        self, base: jax.Array, grad: Any, state: TraceWithLrState, param: jax.Array, n: Any
    ) -> jax.Array:
        return add(base, neg(_ahead(grad, state.velocity, n) if self.nesterov else state.velocity))


class CorrectedTraceWithLr(Rule):
    """velocity = momentum * (lr / last_lr) * velocity + lr * grad; param - velocity.

    At a rate of zero the parameter stays, and the velocity goes on at `last_lr`, as torch's
    momentum buffer would.
    """

    State: ClassVar = CorrectedTraceWithLrState
    in_strips: ClassVar[bool] = True

    lr: Scalar | Schedule
    momentum: Scalar
    nesterov: bool = False

    def init(self, param: jax.Array) -> CorrectedTraceWithLrState:
        """No velocity, at a rate of 1."""
        wide = param.dtype in (jnp.dtype(jnp.float64), jnp.dtype(jnp.complex128))
        last_lr = jnp.ones((), jnp.float64 if wide else jnp.float32)
        # A step fences it together with the velocity, which makes the types of both alike.
        return CorrectedTraceWithLrState(full_like(param, -0.0), varying_like(param, last_lr))

    def numbers(self, step: Any) -> TraceWithLrNumbers:
        return TraceWithLrNumbers(self.momentum, self.lr)

    def accumulate(
        self, grad: jax.Array, state: CorrectedTraceWithLrState, param: jax.Array, n: Any
    ) -> CorrectedTraceWithLrState:
        lr = _rounded(n.lr, param, state.last_lr)
        last_lr = jnp.where(lr == 0, state.last_lr, lr)
        momentum = mul(div(last_lr, state.last_lr), n.momentum)
        velocity = add(mul(state.velocity, momentum), mul(grad, last_lr))
        return CorrectedTraceWithLrState(velocity, last_lr)

    def move(
        self, base: jax.Array, grad: Any, state: CorrectedTraceWithLrState, param: jax.Array, n: Any
    ) -> jax.Array:
        distance = _ahead(grad, state.velocity, n) if self.nesterov else state.velocity
        stays = _rounded(n.lr, param, state.last_lr) == 0
        return add(base, neg(jnp.where(stays, 0, distance)))


def trace_with_lr(
    lr: Scalar | Schedule, momentum: Scalar, nesterov: bool = False, correction: bool = False
) -> Chain:
    """Accumulate gradients times their learning rates, and move by minus the sum. Stands last.

    After a change of the rate, the older gradients go on at their own rates; torch's momentum gives
    them the new one, and so does this one with `correction`. Under a constant rate the three are
    one. Nesterov's `(1 + momentum) * velocity - momentum * old_velocity` is computed as its equal
    `momentum * velocity + lr * grad`, which needs no old velocity and rounds less.

    Args:
        lr: a number, a 0-d array, or a schedule `count -> lr`, where count is 0 at the first
            gradient.
        momentum: the weight of the old velocity, a number or a 0-d array.
        nesterov: look ahead along the new velocity.
        correction: multiply the old velocity by the ratio of the new rate to the old one. The state
            gets a field `last_lr`, the last rate other than zero.

    Source: the formulas on Dragon's SGD page; the correction is equation (10) of Goyal et al.,
    arXiv:1706.02677 (2017).

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import dragon
        >>> transform, grad = dragon.trace_with_lr(0.5, momentum=0.5), jnp.ones(1)
        >>> state = transform.init(jnp.zeros(1))
        >>> param, state = transform.step(grad, state, jnp.zeros(1))
        >>> param, state = transform.step(grad, state, param)
        >>> param, state.states[0].velocity
        (Array([-1.25], dtype=float32), Array([0.75], dtype=float32))
    """
    rule = CorrectedTraceWithLr if correction else TraceWithLr
    return chain(rule(lr, momentum, nesterov))


def _ahead(grad: jax.Array, velocity: jax.Array, n: TraceWithLrNumbers) -> jax.Array:
    """Nesterov's move: one more step of the same momentum, from the same gradient."""
    return add(mul(grad, n.lr), velocity, alpha=n.momentum)


def _rounded(lr: Scalar, param: jax.Array, like: jax.Array) -> jax.Array:
    """The rate as it is multiplied into the gradient: rounded to the parameter's own type."""
    return jnp.full_like(param.real, lr, shape=()).astype(like.dtype)
