"""torch.optim.NAdam."""

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from torchwise.doubles import power, product
from torchwise.fields import term
from torchwise.numbers import Scalar, Schedule, double, require
from torchwise.rounding import add, addcdiv, div, full_like, mul, sqrt
from torchwise.rule import Rule
from torchwise.rules.moments import Decays, averaged, averaged_squares, check_shared, decays_at
from torchwise.rules.weight_decay import decouples, gradient_blocks
from torchwise.transformation import as_function


class NAdamState(NamedTuple):
    """The product of all `mu` so far (float32, 0-d), and averages like the parameter."""

    mu_product: Any
    exp_avg: Any
    exp_avg_sq: Any


class NAdamNumbers(NamedTuple):
    """The numbers of a step; the last three once `mu_product` is known."""

    decays: Decays
    lr: Any
    mu: Any
    mu_next: Any
    eps: Scalar
    decay: Any
    mu_product: Any = None
    of_gradient: Any = None
    of_average: Any = None


class NAdam(Rule):
    """Adam with Nesterov momentum, equal to `torch.optim.NAdam` where torch's roots are correct.

    Args:
        lr: the learning rate: a number, a 0-d array, or a schedule `count -> lr`.
        betas: the weights of the old averages: of gradients, and of their squares.
        eps: added to the root, outside of it, in the gradient's unit.
        weight_decay: this times the parameter is added to the gradient (L2); or decoupled.
        momentum_decay: how fast `mu` rises to `betas[0]`: `betas[0] * (1 - 0.96**(t * this) / 2)`.
        decoupled_weight_decay: multiply the parameter by `1 - lr * weight_decay` instead.
        foreach: chooses an implementation in torch; without effect, as are `capturable` and
            `differentiable`.
        maximize: ascend.
        capturable: without effect.
        differentiable: without effect.

    Raises:
        ValueError: as torch does, for hyperparameters that are negative or NaN, and for betas that
            are not below 1.

    Source: the algorithm on torch's NAdam page; Dozat, ICLR 2016 workshop.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.nadam(lr=0.5)
        >>> params = jnp.array([2.0])
        >>> bool(transform.step(jnp.array([3.0]), transform.init(params), params)[0] < 2)
        True
    """

    State: ClassVar = NAdamState
    name: ClassVar[str] = "NAdam"
    group_keys: ClassVar = (
        *("lr", "betas", "eps", "weight_decay", "momentum_decay", "decoupled_weight_decay"),
        *("maximize", "foreach", "capturable", "differentiable"),
    )
    added_later: ClassVar = {
        "maximize": False,
        "foreach": None,
        "capturable": False,
        "differentiable": False,
        "decoupled_weight_decay": False,
    }
    counts_in_torch: ClassVar[bool] = True
    in_strips: ClassVar[bool] = True

    lr: Scalar | Schedule = 2e-3
    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8
    weight_decay: Scalar = term(default=0)
    momentum_decay: Scalar = 4e-3
    decoupled_weight_decay: bool = False
    _: KW_ONLY
    foreach: bool | None = None
    maximize: bool = False
    capturable: bool = False
    differentiable: bool = False

    def check(self) -> None:
        check_shared(self)
        require(0.0 <= self.momentum_decay, f"Invalid momentum_decay value: {self.momentum_decay}")

    @property
    def counts(self) -> bool:
        return True

    @property
    def adds(self) -> bool:
        return False  # two sums

    def parts(self) -> tuple[Any, ...]:
        return *gradient_blocks(self), self

    def init(self, param: jax.Array) -> NAdamState:
        return NAdamState(
            mu_product=jnp.ones((), jnp.float32),
            exp_avg=full_like(param, 0),
            exp_avg_sq=full_like(param, 0),
        )

    def numbers(self, step: Any) -> NAdamNumbers:
        step = double(step)
        mu, mu_next = (
            product(self.betas[0], 1.0 - 0.5 * power(0.96, t * self.momentum_decay))
            for t in (step, step + 1)
        )
        decay = 1 - product(self.lr, self.weight_decay)
        return NAdamNumbers(decays_at(self.betas, step), self.lr, mu, mu_next, self.eps, decay)

    def numbers_of(self, state: NAdamState, param: jax.Array, n: Any) -> NAdamNumbers:
        mu_product = mul(state.mu_product, n.mu)
        so_far = double(mu_product)
        return n._replace(
            mu_product=mu_product,
            of_gradient=-n.lr * (1.0 - n.mu) / (1.0 - so_far),
            of_average=-n.lr * n.mu_next / (1.0 - product(so_far, n.mu_next)),
        )

    def accumulate(
        self, grad: jax.Array, state: NAdamState, param: jax.Array, n: NAdamNumbers
    ) -> NAdamState:
        return NAdamState(
            mu_product=n.mu_product,
            exp_avg=averaged(state.exp_avg, grad, n.decays),
            exp_avg_sq=averaged_squares(state.exp_avg_sq, grad, n.decays),
        )

    def move(
        self, base: jax.Array, grad: jax.Array, state: NAdamState, param: jax.Array, n: Any
    ) -> jax.Array:
        if decouples(self):
            base = mul(base, n.decay)
        denominator = add(sqrt(div(state.exp_avg_sq, n.decays.correction2)), n.eps)
        base = addcdiv(base, grad, denominator, value=n.of_gradient)
        return addcdiv(base, state.exp_avg, denominator, value=n.of_average)


nadam = as_function(NAdam, "nadam")
