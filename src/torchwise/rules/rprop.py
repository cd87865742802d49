"""torch.optim.Rprop."""

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax

from torchwise.numbers import Scalar, Schedule, check_rate, first_rate, require
from torchwise.rounding import addcmul, after, by_sign, clamp, full_like, mul, sign, zeroed
from torchwise.rule import Rule
from torchwise.rules.weight_decay import gradient_blocks
from torchwise.transformation import as_function


class RpropState(NamedTuple):
    """The last gradient and the size of each step, like the parameter in shape and type."""

    prev: Any
    step_size: Any


class RpropNumbers(NamedTuple):
    """The hyperparameters: two factors, and the bounds of a step's size."""

    shrink: Scalar
    grow: Scalar
    least: Scalar
    largest: Scalar


class Rprop(Rule):
    """Resilient backpropagation, equal to `torch.optim.Rprop`.

    Args:
        lr: the size of the first step, in the parameter's unit: a number, a 0-d array, or a
            schedule, of which the first value is taken.
        etas: what a size is multiplied by where the gradient has turned around, and where not.
        step_sizes: the least and the largest size, in the parameter's unit.
        capturable: without effect, as are `foreach` and `differentiable`.
        foreach: chooses an implementation in torch.
        maximize: ascend.
        differentiable: without effect.

    Raises:
        ValueError: as torch does, for a negative lr, and unless `0 < etas[0] < 1 < etas[1]`.

    Source: the algorithm on torch's Rprop page; Riedmiller and Braun, ICNN 1993.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.rprop(lr=0.5)
        >>> params = jnp.array([2.0])
        >>> transform.step(jnp.array([3.0]), transform.init(params), params)[0]
        Array([1.5], dtype=float32)
    """

    State: ClassVar = RpropState
    name: ClassVar[str] = "Rprop"
    group_keys: ClassVar = (
        *("lr", "etas", "step_sizes"),
        *("foreach", "maximize", "differentiable", "capturable"),
    )
    added_later: ClassVar = {
        "foreach": None,
        "maximize": False,
        "differentiable": False,
        "capturable": False,
    }
    counts_in_torch: ClassVar[bool] = True
    in_strips: ClassVar[bool] = True

    lr: Scalar | Schedule = 1e-2
    etas: tuple[Scalar, Scalar] = (0.5, 1.2)
    step_sizes: tuple[Scalar, Scalar] = (1e-6, 50)
    _: KW_ONLY
    capturable: bool = False
    foreach: bool | None = None
    maximize: bool = False
    differentiable: bool = False

    def check(self) -> None:
        check_rate(self.lr)
        message = f"Invalid eta values: {self.etas[0]}, {self.etas[1]}"
        require(0.0 < self.etas[0], message)
        require(self.etas[0] < 1.0, message)
        require(1.0 < self.etas[1], message)

    def parts(self) -> tuple[Any, ...]:
        return *gradient_blocks(self), self

    def init(self, param: jax.Array) -> RpropState:
        first = full_like(param, first_rate(self.lr))
        return RpropState(prev=full_like(param, 0), step_size=first)

    def numbers(self, step: Any) -> RpropNumbers:
        return RpropNumbers(*self.etas, *self.step_sizes)

    def accumulate(
        self, grad: jax.Array, state: RpropState, param: jax.Array, n: RpropNumbers
    ) -> RpropState:
        step_size = mul(state.step_size, _factor(grad, state.prev, n))
        step_size = after(clamp(step_size, n.least, n.largest), grad)
        # Read the sizes, so that the old gradient is overwritten after they have been computed.
        prev = after(zeroed(grad, _factor(grad, state.prev, n), n.shrink), step_size)
        return RpropState(prev, step_size)

    def move(
        self, base: jax.Array, grad: Any, state: RpropState, param: jax.Array, n: RpropNumbers
    ) -> jax.Array:
        return addcmul(base, sign(state.prev), state.step_size, value=-1)


def _factor(grad: jax.Array, prev: jax.Array, n: RpropNumbers) -> jax.Array:
    return by_sign(mul(grad, prev), n.grow, n.shrink, 1)


rprop = as_function(Rprop, "rprop")
