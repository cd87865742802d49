"""torch.optim.SGD."""

from dataclasses import KW_ONLY
from typing import Any, ClassVar

from torchwise.blocks.trace import Trace, TraceState
from torchwise.fields import term
from torchwise.numbers import Scalar, Schedule, check_single, refuse
from torchwise.rule import Rule
from torchwise.rules.scale_by_learning_rate import ScaleByLearningRate
from torchwise.rules.weight_decay import gradient_blocks
from torchwise.transformation import as_function


class SGD(Rule):
    """Stochastic gradient descent, equal to `torch.optim.SGD`.

    Args:
        lr: the learning rate: a number, a 0-d array, or a schedule `count -> lr`.
        momentum: the weight of the old momentum buffer.
        dampening: one minus the weight of the gradient in the buffer; a parameter's first gradient
            is not dampened.
        weight_decay: this times the parameter is added to the gradient (L2), before momentum.
        nesterov: look ahead along the new buffer.
        maximize: ascend.
        foreach: chooses an implementation in torch; without effect.
        differentiable: without effect.
        fused: without effect.

    Raises:
        ValueError: as torch does, for a negative lr, momentum or weight_decay, and for Nesterov
            without momentum or with dampening.

    Source: the algorithm on torch's SGD page.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.sgd(lr=0.5, momentum=0.9)
        >>> params = {"w": jnp.ones(2)}
        >>> params, state = transform.step({"w": jnp.ones(2)}, transform.init(params), params)
        >>> params["w"]
        Array([0.5, 0.5], dtype=float32)
    """

    State: ClassVar = TraceState
    name: ClassVar[str] = "SGD"
    group_keys: ClassVar = (
        *("lr", "momentum", "dampening", "weight_decay", "nesterov"),
        *("maximize", "foreach", "differentiable", "fused"),
    )
    added_later: ClassVar = {
        "nesterov": False,
        "maximize": False,
        "foreach": None,
        "differentiable": False,
        "fused": False,
    }

    lr: Scalar | Schedule = 1e-3
    momentum: Scalar = term(default=0)
    dampening: Scalar = term(default=0)
    weight_decay: Scalar = term(default=0)
    nesterov: bool = False
    _: KW_ONLY
    maximize: bool = False
    foreach: bool | None = None
    differentiable: bool = False
    fused: bool | None = None

    def check(self) -> None:
        if not callable(self.lr):
            check_single(self.lr)
            refuse(self.lr < 0.0, f"Invalid learning rate: {self.lr}")
        refuse(self.momentum < 0.0, f"Invalid momentum value: {self.momentum}")
        refuse(self.weight_decay < 0.0, f"Invalid weight_decay value: {self.weight_decay}")
        if self.nesterov:
            message = "Nesterov momentum requires a momentum and zero dampening"
            refuse(self.momentum <= 0, message)
            refuse(self.dampening != 0, message)

    def parts(self) -> tuple[Any, ...]:
        blocks = gradient_blocks(self)
        if self.has("momentum"):
            blocks.append(Trace(self.momentum, self.dampening, self.nesterov))
        return *blocks, ScaleByLearningRate(self.lr)


sgd = as_function(SGD, "sgd")
