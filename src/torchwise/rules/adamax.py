"""torch.optim.Adamax."""

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax

from torchwise.fields import term
from torchwise.numbers import Scalar, Schedule
from torchwise.rounding import abs, add, addcdiv, full_like, maximum, mul
from torchwise.rule import Rule
from torchwise.rules.moments import Decays, averaged, check_shared, decays_at
from torchwise.rules.weight_decay import gradient_blocks
from torchwise.transformation import as_function


class AdamaxState(NamedTuple):
    """The average and the weighted infinity norm, like the parameter in shape and type."""

    exp_avg: Any
    exp_inf: Any


class AdamaxNumbers(NamedTuple):
    """The numbers of a step."""

    decays: Decays
    step_size: Any
    eps: Scalar


class Adamax(Rule):
    """Adamax, equal to `torch.optim.Adamax`.

    Args:
        lr: the learning rate: a number, a 0-d array, or a schedule `count -> lr`.
        betas: the weights of the old average of gradients, and of the old norm.
        eps: added to the size of a gradient, in its unit.
        weight_decay: this times the parameter is added to the gradient (L2).
        foreach: chooses an implementation in torch; without effect, as are `capturable` and
            `differentiable`.
        maximize: ascend.
        differentiable: without effect.
        capturable: without effect.

    Raises:
        ValueError: as torch does, for hyperparameters that are negative or NaN, and for betas that
            are not below 1.

    Source: the algorithm on torch's Adamax page; Kingma and Ba, arXiv:1412.6980.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.adamax(lr=0.5)
        >>> params = jnp.array([2.0])
        >>> transform.step(jnp.array([3.0]), transform.init(params), params)[0]
        Array([1.5], dtype=float32)
    """

    State: ClassVar = AdamaxState
    name: ClassVar[str] = "Adamax"
    group_keys: ClassVar = (
        *("lr", "betas", "eps", "weight_decay"),
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

    lr: Scalar | Schedule = 2e-3
    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8
    weight_decay: Scalar = term(default=0)
    foreach: bool | None = None
    _: KW_ONLY
    maximize: bool = False
    differentiable: bool = False
    capturable: bool = False

    def check(self) -> None:
        check_shared(self)

    @property
    def counts(self) -> bool:
        return True

    def parts(self) -> tuple[Any, ...]:
        return *gradient_blocks(self), self

    def init(self, param: jax.Array) -> AdamaxState:
        return AdamaxState(exp_avg=full_like(param, 0), exp_inf=full_like(param, 0))

    def numbers(self, step: Any) -> AdamaxNumbers:
        decays = decays_at(self.betas, step)
        return AdamaxNumbers(decays, self.lr / decays.correction1, self.eps)

    def accumulate(
        self, grad: jax.Array, state: AdamaxState, param: jax.Array, n: AdamaxNumbers
    ) -> AdamaxState:
        return AdamaxState(
            exp_avg=averaged(state.exp_avg, grad, n.decays),
            exp_inf=maximum(mul(state.exp_inf, n.decays.beta2), add(abs(grad), n.eps)),
        )

    def move(
        self, base: jax.Array, grad: Any, state: AdamaxState, param: jax.Array, n: AdamaxNumbers
    ) -> jax.Array:
        return addcdiv(base, state.exp_avg, state.exp_inf, value=-n.step_size)


adamax = as_function(Adamax, "adamax")
