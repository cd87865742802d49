"""torch.optim.Adam."""

from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax

from torchwise.doubles import power, product, quotient
from torchwise.fields import term
from torchwise.numbers import Scalar, Schedule, is_array, refuse
from torchwise.rounding import add, addcdiv, div, full_like, maximum, mul, sqrt
from torchwise.rule import Rule
from torchwise.rules.moments import (
    Decays,
    averaged,
    averaged_squares,
    check_shared,
    check_tensors,
    decays_at,
)
from torchwise.rules.weight_decay import decouples, gradient_blocks
from torchwise.transformation import as_function


class AdamState(NamedTuple):
    """Averages like the parameter in shape and type; the last is None without `amsgrad`."""

    exp_avg: Any
    exp_avg_sq: Any
    max_exp_avg_sq: Any = None


class AdamNumbers(NamedTuple):
    """The numbers of a step; `decay` is `1 - lr * weight_decay`."""

    decays: Decays
    step_size: Any
    root: Any
    eps: Scalar
    decay: Any


class Adam(Rule):
    """Adam, equal to `torch.optim.Adam` wherever torch's square root is correctly rounded.

    Args:
        lr: the learning rate: a number, a 0-d array, or a schedule `count -> lr`.
        betas: the weights of the old averages: of gradients, and of their squares.
        eps: added to the corrected root, outside of it, in the gradient's unit.
        weight_decay: this times the parameter is added to the gradient (L2); or decoupled.
        amsgrad: divide by the largest average of squares so far.
        foreach: chooses an implementation in torch; without effect, as are `capturable`,
            `differentiable` and `fused`.
        maximize: ascend.
        capturable: without effect.
        differentiable: without effect.
        fused: without effect.
        decoupled_weight_decay: multiply the parameter by `1 - lr * weight_decay` instead, as AdamW.

    Raises:
        ValueError: as torch does, for hyperparameters that are negative or NaN, and for betas that
            are not below 1.

    Source: the algorithm on torch's Adam page; Kingma and Ba, arXiv:1412.6980.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.adam(lr=0.5)
        >>> params = jnp.array([2.0])
        >>> transform.step(jnp.array([3.0]), transform.init(params), params)[0]
        Array([1.5], dtype=float32)
    """

    State: ClassVar = AdamState
    name: ClassVar[str] = "Adam"
    group_keys: ClassVar = (
        *("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "foreach"),
        *("capturable", "differentiable", "fused", "decoupled_weight_decay"),
    )
    added_later: ClassVar = {
        "amsgrad": False,
        "maximize": False,
        "foreach": None,
        "capturable": False,
        "differentiable": False,
        "decoupled_weight_decay": False,
        "fused": None,
    }
    counts_in_torch: ClassVar[bool] = True
    in_strips: ClassVar[bool] = True

    lr: Scalar | Schedule = 1e-3
    betas: tuple[Scalar, Scalar] = (0.9, 0.999)
    eps: Scalar = 1e-8
    weight_decay: Scalar = term(default=0)
    amsgrad: bool = False
    _: KW_ONLY
    foreach: bool | None = None
    maximize: bool = False
    capturable: bool = False
    differentiable: bool = False
    fused: bool | None = None
    decoupled_weight_decay: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))  # as torch, whatever was given

    def check(self) -> None:
        eager = self.foreach and not self.capturable
        message = "lr as a Tensor is not supported for capturable=False and foreach=True"
        refuse(is_array(self.lr) and eager, message)
        check_shared(self)
        check_tensors(self.betas, eager)

    @property
    def counts(self) -> bool:
        return True

    @property
    def adds(self) -> bool:
        return not decouples(self)

    def for_gradient(self, sparse: bool) -> "Adam":
        if sparse:
            message = "Adam does not support sparse gradients, please consider SparseAdam instead"
            raise RuntimeError(message)
        return self

    def parts(self) -> tuple[Any, ...]:
        return *gradient_blocks(self), self

    def init(self, param: jax.Array) -> AdamState:
        return AdamState(
            exp_avg=full_like(param, 0),
            exp_avg_sq=full_like(param, 0),
            max_exp_avg_sq=full_like(param, 0) if self.amsgrad else None,
        )

    def numbers(self, step: Any) -> AdamNumbers:
        decays = decays_at(self.betas, step)
        return AdamNumbers(
            decays=decays,
            step_size=quotient(self.lr, decays.correction1),
            root=power(decays.correction2, 0.5),
            eps=self.eps,
            decay=1 - product(self.lr, self.weight_decay),
        )

    def accumulate(
        self, grad: jax.Array, state: AdamState, param: jax.Array, n: AdamNumbers
    ) -> AdamState:
        squares = averaged_squares(state.exp_avg_sq, grad, n.decays)
        return AdamState(
            exp_avg=averaged(state.exp_avg, grad, n.decays),
            exp_avg_sq=squares,
            max_exp_avg_sq=maximum(state.max_exp_avg_sq, squares) if self.amsgrad else None,
        )

    def move(
        self, base: jax.Array, grad: jax.Array, state: AdamState, param: jax.Array, n: AdamNumbers
    ) -> jax.Array:
        if decouples(self):
            base = mul(base, n.decay)
        squares = state.max_exp_avg_sq if self.amsgrad else state.exp_avg_sq
        denominator = add(div(sqrt(squares), n.root), n.eps)
        return addcdiv(base, state.exp_avg, denominator, value=-n.step_size)


adam = as_function(Adam, "adam")
