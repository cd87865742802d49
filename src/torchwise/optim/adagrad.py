"""torch.optim.Adagrad's face."""

from typing import Any

from torchwise.optim.format_optimizer import FormatOptimizer
from torchwise.optimizers.adagrad import ADAGRAD_GROUP


class Adagrad(FormatOptimizer):
    """Adagrad with torch's signature.

    `foreach` and `fused` choose between implementations in torch; here they are kept in groups and
    state dicts and change nothing. `differentiable` likewise.

    Args:
        params: see `Optimizer`.
        lr: the learning rate.
        lr_decay: divides the rate by `1 + (t - 1) * lr_decay` at a parameter's t-th gradient.
        weight_decay: L2 decay.
        initial_accumulator_value: where the sums of squares start.
        eps: added to the root of the sum, outside of it.
        foreach: kept, without effect.
        maximize: ascend.
        differentiable: kept, without effect.
        fused: kept, without effect.

    Raises:
        TypeError, ValueError, RuntimeError: as torch does, for invalid hyperparameters.

    Source: torch's Adagrad page; the mathematics is `torchwise.adagrad`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.Adagrad({"w": jnp.ones(2)}, lr=0.5)
        >>> optimizer.train_step(lambda params: jnp.sum(params["w"] ** 2))
        Array(2., dtype=float32)
        >>> optimizer.params["w"]
        Array([0.5, 0.5], dtype=float32)
    """

    group_format = ADAGRAD_GROUP

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            lr_decay=lr_decay,
            eps=eps,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            foreach=foreach,
            maximize=maximize,
            differentiable=differentiable,
            fused=fused,
        )
