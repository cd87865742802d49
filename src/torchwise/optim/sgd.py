"""torch.optim.SGD's face."""

from typing import Any

from torchwise.optim.format_optimizer import FormatOptimizer
from torchwise.optimizers.sgd import SGD_GROUP


class SGD(FormatOptimizer):
    """Stochastic gradient descent with torch's signature.

    `foreach` and `fused` choose between implementations in torch; here they are kept in groups and
    state dicts and change nothing. `differentiable` likewise: `torchwise.sgd` is differentiable.

    Args:
        params: see `Optimizer`.
        lr: the learning rate.
        momentum: the weight of the old momentum buffer.
        dampening: one minus the weight of the gradient in the buffer, from the second gradient on.
        weight_decay: L2 decay.
        nesterov: look ahead along the new buffer.
        maximize: ascend.
        foreach: kept, without effect.
        differentiable: kept, without effect.
        fused: kept, without effect.

    Raises:
        TypeError, ValueError, RuntimeError: as torch does, for invalid hyperparameters.

    Source: torch's SGD page; the mathematics is `torchwise.sgd`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=0.5)
        >>> optimizer.backward(lambda params: jnp.sum(params["w"] ** 2))
        Array(2., dtype=float32)
        >>> optimizer.step()
        >>> optimizer.params["w"]
        Array([0., 0.], dtype=float32)
    """

    group_format = SGD_GROUP

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: Any = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
            foreach=foreach,
            differentiable=differentiable,
            fused=fused,
        )
