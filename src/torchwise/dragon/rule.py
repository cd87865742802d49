"""dragon.vm.torch.optim.SGD."""

import dataclasses
from typing import Any, ClassVar

import jax

from torchwise.blocks.add_decayed_weights import AddDecayedWeights
from torchwise.blocks.clip_each_by_norm import ClipEachByNorm
from torchwise.blocks.scale import Scale
from torchwise.dragon.trace_with_lr import CorrectedTraceWithLr, TraceWithLr, TraceWithLrState
from torchwise.fields import term
from torchwise.numbers import Scalar, Schedule, is_array
from torchwise.rule import Block, Rule
from torchwise.rules.scale_by_learning_rate import ScaleByLearningRate
from torchwise.rules.sgd import SGD
from torchwise.transformation import as_function


class DragonSGD(Rule):
    """Dragon's stochastic gradient descent: the learning rate is inside the momentum buffer.

    The gradient is scaled, clipped, decayed, and then moves the parameter by

    - `-lr * grad` without momentum (as torch's SGD, to the bit),
    - `-(momentum * m_old + lr * grad)` with momentum,
    - `-((1 + momentum) * m - momentum * m_old)` with Nesterov, `m = momentum * m_old + lr * grad`.

    Under a constant learning rate this is torch's SGD up to rounding, under a changing one not.

    Args:
        lr: the learning rate (times a group's `lr_mult`): a number, a 0-d array, or a schedule
            `count -> lr`.
        momentum: the weight of the old buffer.
        dampening: without effect, as in Dragon; Nesterov refuses it.
        weight_decay: this (times a group's `decay_mult`) times the parameter is added to the
            gradient (L2), which is neither scaled nor clipped with it.
        nesterov: look ahead along the new buffer.
        scale: multiplies the gradient first; `1 / k` for a sum over k micro batches.
        clip_norm: bounds the L2 norm of each array's scaled gradient; zero and less do not.
        momentum_correction: bring the old buffer to the new rate, so that the result is torch's SGD
            also under changing rates, rates of zero included. Dragon's sources do this for one
            parameter of a group and lose the buffer at a rate of zero; here it holds for every
            parameter, and for Nesterov, too.

    Raises:
        ValueError: as Dragon does, for a negative lr or momentum and for Nesterov without momentum
            or with dampening; for a negative weight_decay, which Dragon ignores in silence.

    Source: Dragon's SGD page, of July 2020; the order of the terms is that of its sources.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import dragon
        >>> transform = dragon.sgd(lr=0.5, momentum=0.9)
        >>> params = {"w": jnp.ones(2)}
        >>> params, state = transform.step({"w": jnp.ones(2)}, transform.init(params), params)
        >>> params["w"]
        Array([0.5, 0.5], dtype=float32)
    """

    State: ClassVar = TraceWithLrState
    group_keys: ClassVar = (
        *("lr", "momentum", "dampening", "weight_decay", "nesterov"),
        *("scale", "clip_norm", "momentum_correction"),
    )

    lr: Scalar | Schedule
    momentum: Scalar = term(default=0)
    dampening: Scalar = 0
    weight_decay: Scalar = term(default=0)
    nesterov: bool = False
    scale: Scalar = 1
    clip_norm: Scalar = term(default=0)
    _: dataclasses.KW_ONLY
    momentum_correction: bool = False
    # Whether to scale is structure: inside jit, where the scale is traced, it cannot be told.
    _scales: bool = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_scales", is_array(self.scale) or self.scale != 1)

    def check(self) -> None:
        SGD(self.lr, self.momentum, self.dampening, self.weight_decay, self.nesterov).check()

    def memory(self, param: jax.Array) -> dict[str, Any]:
        return self._trace().init(param)._asdict()

    def parts(self) -> tuple[Any, ...]:
        blocks: list[Block] = [Scale(self.scale)] if self._scales else []
        if self.has("clip_norm"):
            blocks.append(ClipEachByNorm(self.clip_norm))
        if self.has("weight_decay"):
            blocks.append(AddDecayedWeights(self.weight_decay))
        if not self.has("momentum"):
            return *blocks, ScaleByLearningRate(self.lr)
        return *blocks, self._trace()

    def _trace(self) -> Rule:
        trace = CorrectedTraceWithLr if self.momentum_correction else TraceWithLr
        return trace(self.lr, self.momentum, self.nesterov)


sgd = as_function(DragonSGD, "sgd")
