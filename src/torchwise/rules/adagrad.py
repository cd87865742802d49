"""torch.optim.Adagrad."""

from dataclasses import KW_ONLY
from typing import Any, ClassVar

from torchwise.blocks.scale_by_adagrad import ScaleByAdagrad, ScaleByAdagradState
from torchwise.fields import term
from torchwise.numbers import Scalar, Schedule, check_rate, require
from torchwise.rule import Rule
from torchwise.rules.scale_by_learning_rate import ScaleByLearningRate
from torchwise.rules.weight_decay import gradient_blocks
from torchwise.transformation import as_function


class Adagrad(Rule):
    """Adagrad, equal to `torch.optim.Adagrad` wherever torch's square root is correctly rounded.

    Args:
        lr: the learning rate: a number, a 0-d array, or a schedule `count -> lr`.
        lr_decay: divides the rate by `1 + (t - 1) * lr_decay` at the t-th gradient.
        weight_decay: this times the parameter is added to the gradient (L2).
        initial_accumulator_value: where the sums of squares start.
        eps: added to the root of the sum, outside of it, in the gradient's unit.
        foreach: chooses an implementation in torch; without effect.
        maximize: ascend.
        differentiable: without effect.
        fused: without effect.

    Raises:
        ValueError: as torch does, for hyperparameters that are negative or NaN.

    Source: the algorithm on torch's Adagrad page.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.adagrad(lr=0.5)
        >>> params = {"w": jnp.ones(2)}
        >>> params, state = transform.step({"w": jnp.ones(2)}, transform.init(params), params)
        >>> params["w"]
        Array([0.5, 0.5], dtype=float32)
    """

    State: ClassVar = ScaleByAdagradState
    name: ClassVar[str] = "Adagrad"
    group_keys: ClassVar = (
        *("lr", "lr_decay", "eps", "weight_decay", "initial_accumulator_value"),
        *("foreach", "maximize", "differentiable", "fused"),
    )
    added_later: ClassVar = {
        "foreach": None,
        "maximize": False,
        "differentiable": False,
        "fused": None,
    }
    counts_in_torch: ClassVar[bool] = True
    starts_with_state: ClassVar[bool] = True

    lr: Scalar | Schedule = 1e-2
    lr_decay: Scalar = term(default=0)
    weight_decay: Scalar = term(default=0)
    initial_accumulator_value: Scalar = 0
    eps: Scalar = 1e-10
    foreach: bool | None = None
    _: KW_ONLY
    maximize: bool = False
    differentiable: bool = False
    fused: bool | None = None

    def check(self) -> None:
        check_rate(self.lr)
        require(0.0 <= self.lr_decay, f"Invalid lr_decay value: {self.lr_decay}")
        require(0.0 <= self.weight_decay, f"Invalid weight_decay value: {self.weight_decay}")
        start = self.initial_accumulator_value
        require(0.0 <= start, f"Invalid initial_accumulator_value value: {start}")
        require(0.0 <= self.eps, f"Invalid epsilon value: {self.eps}")

    def parts(self) -> tuple[Any, ...]:
        blocks = gradient_blocks(self)
        blocks.append(ScaleByAdagrad(self.initial_accumulator_value, self.eps))
        return *blocks, ScaleByLearningRate(self.lr, self.lr_decay)


adagrad = as_function(Adagrad, "adagrad")
