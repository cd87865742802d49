"""torch.optim.RMSprop."""

from typing import Any, ClassVar, NamedTuple

import jax

from torchwise.fence import fence
from torchwise.fields import term
from torchwise.numbers import Scalar, Schedule, check_rate, require
from torchwise.rounding import add, addcdiv, addcmul, full_like, lerp, mul, sqrt
from torchwise.rule import Rule
from torchwise.rules.weight_decay import gradient_blocks
from torchwise.transformation import as_function


class RMSpropState(NamedTuple):
    """Averages like the parameter in shape and type; None where an option is off."""

    square_avg: Any
    momentum_buffer: Any = None
    grad_avg: Any = None


class RMSpropNumbers(NamedTuple):
    """The hyperparameters of a step; `rest` is `1 - alpha`."""

    lr: Any
    alpha: Scalar
    rest: Scalar
    eps: Scalar
    momentum: Scalar


class RMSprop(Rule):
    """RMSprop, equal to `torch.optim.RMSprop` wherever torch's square root is correctly rounded.

    Args:
        lr: the learning rate: a number, a 0-d array, or a schedule `count -> lr`.
        alpha: the weight of the old average of squares.
        eps: added to the root of the average, outside of it, in the gradient's unit.
        weight_decay: this times the parameter is added to the gradient (L2).
        momentum: the weight of the old momentum buffer, which takes up scaled gradients.
        centered: divide by the standard deviation: the root of the average of squares minus the
            square of the average.
        capturable: without effect, as are `foreach` and `differentiable`.
        foreach: chooses an implementation in torch.
        maximize: ascend.
        differentiable: without effect.

    Raises:
        ValueError: as torch does, for hyperparameters that are negative or NaN.

    Source: the algorithm on torch's RMSprop page.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.rmsprop(lr=0.5, alpha=0.75)
        >>> params = jnp.array([2.0])
        >>> transform.step(jnp.array([3.0]), transform.init(params), params)[0]
        Array([1.], dtype=float32)
    """

    State: ClassVar = RMSpropState
    name: ClassVar[str] = "RMSprop"
    group_keys: ClassVar = (
        *("lr", "momentum", "alpha", "eps", "centered", "weight_decay"),
        *("capturable", "foreach", "maximize", "differentiable"),
    )
    added_later: ClassVar = {
        "momentum": 0,
        "centered": False,
        "foreach": None,
        "maximize": False,
        "differentiable": False,
        "capturable": False,
    }
    counts_in_torch: ClassVar[bool] = True
    in_strips: ClassVar[bool] = True

    lr: Scalar | Schedule = 1e-2
    alpha: Scalar = 0.99
    eps: Scalar = 1e-8
    weight_decay: Scalar = term(default=0)
    momentum: Scalar = term(default=0)
    centered: bool = False
    capturable: bool = False
    foreach: bool | None = None
    maximize: bool = False
    differentiable: bool = False

    def check(self) -> None:
        check_rate(self.lr)
        require(0.0 <= self.eps, f"Invalid epsilon value: {self.eps}")
        require(0.0 <= self.momentum, f"Invalid momentum value: {self.momentum}")
        require(0.0 <= self.weight_decay, f"Invalid weight_decay value: {self.weight_decay}")
        require(0.0 <= self.alpha, f"Invalid alpha value: {self.alpha}")

    def parts(self) -> tuple[Any, ...]:
        return *gradient_blocks(self), self

    def init(self, param: jax.Array) -> RMSpropState:
        return RMSpropState(
            square_avg=full_like(param, 0),
            momentum_buffer=full_like(param, 0) if self.has("momentum") else None,
            grad_avg=full_like(param, 0) if self.centered else None,
        )

    def numbers(self, step: Any) -> RMSpropNumbers:
        return RMSpropNumbers(self.lr, self.alpha, 1 - self.alpha, self.eps, self.momentum)

    def accumulate(
        self, grad: jax.Array, state: RMSpropState, param: jax.Array, n: RMSpropNumbers
    ) -> RMSpropState:
        state = state._replace(
            square_avg=addcmul(mul(state.square_avg, n.alpha), grad, grad, value=n.rest)
        )
        if self.centered:
            state = state._replace(grad_avg=lerp(state.grad_avg, grad, n.rest))
        if self.has("momentum"):
            state, grad = fence((state, grad))
            faded = mul(state.momentum_buffer, n.momentum)
            buffer = addcdiv(faded, grad, self._deviation(state, n))
            state = state._replace(momentum_buffer=buffer)
        return state

    def move(
        self, base: jax.Array, grad: jax.Array, state: RMSpropState, param: jax.Array, n: Any
    ) -> jax.Array:
        if self.has("momentum"):
            return add(base, state.momentum_buffer, alpha=-n.lr)
        return addcdiv(base, grad, self._deviation(state, n), value=-n.lr)

    def _deviation(self, state: RMSpropState, n: RMSpropNumbers) -> jax.Array:
        variance = state.square_avg
        if self.centered:
            variance = addcmul(variance, state.grad_avg, state.grad_avg, value=-1)
        return add(sqrt(variance), n.eps)


rmsprop = as_function(RMSprop, "rmsprop")
