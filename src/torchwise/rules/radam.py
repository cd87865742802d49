"""torch.optim.RAdam."""

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax

from torchwise.doubles import choose, power, product
from torchwise.fields import term
from torchwise.numbers import Scalar, Schedule, double
from torchwise.rounding import add, div, full_like, mul, pinned, reciprocal, select, sqrt
from torchwise.rule import Rule
from torchwise.rules.moments import Decays, averaged, averaged_squares, check_shared, decays_at
from torchwise.rules.weight_decay import decouples, gradient_blocks
from torchwise.transformation import as_function


class RAdamState(NamedTuple):
    """Averages of gradients and of their squares, like the parameter in shape and type."""

    exp_avg: Any
    exp_avg_sq: Any


class RAdamNumbers(NamedTuple):
    """The numbers of a step.

    Attributes:
        decays: see `Decays`.
        lr: the learning rate.
        root: of the second correction.
        rectified: whether the average of squares is known well enough to divide by.
        rectification: 1 where it is not.
        eps: see `RAdam`.
        decay: `1 - lr * weight_decay`.
    """

    decays: Decays
    lr: Any
    root: Any
    rectified: Any
    rectification: Any
    eps: Scalar
    decay: Any


class RAdam(Rule):
    """Rectified Adam, equal to `torch.optim.RAdam` wherever torch's root is correctly rounded.

    Args:
        lr: the learning rate: a number, a 0-d array, or a schedule `count -> lr`.
        betas: the weights of the old averages: of gradients, and of their squares.
        eps: added to the root, outside of it, in the gradient's unit.
        weight_decay: this times the parameter is added to the gradient (L2); or decoupled.
        decoupled_weight_decay: multiply the parameter by `1 - lr * weight_decay` instead.
        foreach: chooses an implementation in torch; without effect, as are `capturable` and
            `differentiable`.
        maximize: ascend.
        capturable: without effect.
        differentiable: without effect.

    Raises:
        ValueError: as torch does, for hyperparameters that are negative or NaN, and for betas that
            are not below 1.

    Source: the algorithm on torch's RAdam page; Liu et al., arXiv:1908.03265.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.radam(lr=0.5)
        >>> params = jnp.array([2.0])
        >>> transform.step(jnp.array([3.0]), transform.init(params), params)[0]
        Array([0.5], dtype=float32)
    """

    State: ClassVar = RAdamState
    name: ClassVar[str] = "RAdam"
    group_keys: ClassVar = (
        *("lr", "betas", "eps", "weight_decay", "maximize", "foreach"),
        *("capturable", "decoupled_weight_decay", "differentiable"),
    )
    added_later: ClassVar = {
        "foreach": None,
        "maximize": False,
        "differentiable": False,
        "decoupled_weight_decay": False,
        "capturable": False,
    }
    counts_in_torch: ClassVar[bool] = True
    in_strips: ClassVar[bool] = True

    lr: Scalar | Schedule = 1e-3
    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8
    weight_decay: Scalar = term(default=0)
    decoupled_weight_decay: bool = False
    _: KW_ONLY
    foreach: bool | None = None
    maximize: bool = False
    capturable: bool = False
    differentiable: bool = False

    def check(self) -> None:
        check_shared(self)

    @property
    def counts(self) -> bool:
        return True

    @property
    def adds(self) -> bool:
        return not decouples(self)

    def parts(self) -> tuple[Any, ...]:
        return *gradient_blocks(self), self

    def init(self, param: jax.Array) -> RAdamState:
        return RAdamState(exp_avg=full_like(param, 0), exp_avg_sq=full_like(param, 0))

    def numbers(self, step: Any) -> RAdamNumbers:
        step = double(step)
        decays = decays_at(self.betas, step)
        longest = 2 / (1 - self.betas[1]) - 1
        # Pinned: of two known numbers that are subtracted one by one XLA would take the sum.
        length = pinned(longest - 2 * step * power(self.betas[1], step) / decays.correction2)

        def rectification() -> Any:
            grown = (length - 4) * (length - 2) * longest
            return power(grown / ((longest - 4) * (longest - 2) * length), 0.5)

        return RAdamNumbers(
            decays=decays,
            lr=self.lr,
            root=power(decays.correction2, 0.5),
            rectified=length > 5,
            rectification=choose(length > 5, rectification, lambda: 1.0),
            eps=self.eps,
            decay=1 - product(self.lr, self.weight_decay),
        )

    def accumulate(
        self, grad: jax.Array, state: RAdamState, param: jax.Array, n: RAdamNumbers
    ) -> RAdamState:
        return RAdamState(
            exp_avg=averaged(state.exp_avg, grad, n.decays),
            exp_avg_sq=averaged_squares(state.exp_avg_sq, grad, n.decays),
        )

    def move(
        self, base: jax.Array, grad: Any, state: RAdamState, param: jax.Array, n: RAdamNumbers
    ) -> jax.Array:
        if decouples(self):
            base = mul(base, n.decay)
        step = mul(div(state.exp_avg, n.decays.correction1), n.lr)
        scaled = mul(reciprocal(add(sqrt(state.exp_avg_sq), n.eps)), n.root)
        rectified = mul(mul(step, scaled), n.rectification)
        return add(base, select(n.rectified, rectified, step), alpha=-1)


radam = as_function(RAdam, "radam")
