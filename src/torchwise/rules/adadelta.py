"""torch.optim.Adadelta."""

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax

from torchwise.fence import fence
from torchwise.fields import term
from torchwise.numbers import Scalar, Schedule, check_rate, require
from torchwise.rounding import add, addcmul, after, div, full_like, mul, sqrt
from torchwise.rule import Rule
from torchwise.rules.weight_decay import gradient_blocks
from torchwise.transformation import as_function


class AdadeltaState(NamedTuple):
    """Averages of squares, of gradients and of steps, like the parameter in shape and type."""

    square_avg: Any
    acc_delta: Any


class AdadeltaNumbers(NamedTuple):
    """The hyperparameters of a step; `rest` is `1 - rho`."""

    lr: Any
    rho: Scalar
    rest: Scalar
    eps: Scalar


class Adadelta(Rule):
    """Adadelta, equal to `torch.optim.Adadelta` wherever torch's roots are correctly rounded.

    Args:
        lr: the learning rate, which scales a step that is made already: a number, a 0-d array, or a
            schedule `count -> lr`.
        rho: the weight of the old averages.
        eps: added to both averages, inside of their roots, in the square of the gradient's unit.
        weight_decay: this times the parameter is added to the gradient (L2).
        foreach: chooses an implementation in torch; without effect, as are `capturable` and
            `differentiable`.
        capturable: without effect.
        maximize: ascend.
        differentiable: without effect.

    Raises:
        ValueError: as torch does, for hyperparameters that are negative or NaN, and
            for a rho above 1.

    Source: the algorithm on torch's Adadelta page; Zeiler, arXiv:1212.5701.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.adadelta(lr=1.0, rho=0.75, eps=1.0)
        >>> params = jnp.array([2.0])
        >>> transform.step(jnp.array([0.0]), transform.init(params), params)[0]
        Array([2.], dtype=float32)
    """

    State: ClassVar = AdadeltaState
    name: ClassVar[str] = "Adadelta"
    group_keys: ClassVar = (
        *("lr", "rho", "eps", "weight_decay"),
        *("maximize", "capturable", "foreach", "differentiable"),
    )
    added_later: ClassVar = {
        "foreach": None,
        "maximize": False,
        "differentiable": False,
        "capturable": False,
    }
    counts_in_torch: ClassVar[bool] = True
    in_strips: ClassVar[bool] = True

    lr: Scalar | Schedule = 1.0
    rho: Scalar = 0.9
    eps: Scalar = 1e-6
    weight_decay: Scalar = term(default=0)
    foreach: bool | None = None
    _: KW_ONLY
    capturable: bool = False
    maximize: bool = False
    differentiable: bool = False

    def check(self) -> None:
        check_rate(self.lr)
        require(0.0 <= self.rho, f"Invalid rho value: {self.rho}")
        require(self.rho <= 1.0, f"Invalid rho value: {self.rho}")
        require(0.0 <= self.eps, f"Invalid epsilon value: {self.eps}")
        require(0.0 <= self.weight_decay, f"Invalid weight_decay value: {self.weight_decay}")

    def parts(self) -> tuple[Any, ...]:
        return *gradient_blocks(self), self

    def init(self, param: jax.Array) -> AdadeltaState:
        return AdadeltaState(square_avg=full_like(param, 0), acc_delta=full_like(param, 0))

    def numbers(self, step: Any) -> AdadeltaNumbers:
        return AdadeltaNumbers(self.lr, self.rho, 1 - self.rho, self.eps)

    def accumulate(
        self, grad: jax.Array, state: AdadeltaState, param: jax.Array, n: AdadeltaNumbers
    ) -> AdadeltaState:
        squares = addcmul(mul(state.square_avg, n.rho), grad, grad, value=n.rest)
        return state._replace(square_avg=squares)

    def conclude(
        self, base: jax.Array, grad: jax.Array, state: AdadeltaState, param: jax.Array, n: Any
    ) -> tuple[jax.Array, AdadeltaState]:
        ratio = div(sqrt(add(state.acc_delta, n.eps)), sqrt(add(state.square_avg, n.eps)))
        # Both below need the average of before: on CPU the ratio is a temporary.
        delta = mul(fence(ratio), grad)
        average = addcmul(mul(state.acc_delta, n.rho), delta, delta, value=n.rest)
        # Read the average, so that the parameter is overwritten after it has been computed.
        return add(after(base, average), delta, alpha=-n.lr), state._replace(acc_delta=average)


adadelta = as_function(Adadelta, "adadelta")
