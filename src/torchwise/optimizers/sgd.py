"""torch.optim.SGD."""

from typing import Any

from torchwise.optimizers.group_format import GroupFormat
from torchwise.optimizers.validation import check_single, refuse
from torchwise.transforms.chain import Chain, chain
from torchwise.transforms.decay import add_decayed_weights
from torchwise.transforms.learning_rate import scale_by_learning_rate
from torchwise.transforms.maximization import maximize as ascend
from torchwise.transforms.momentum import trace
from torchwise.transforms.numbers import Scalar, Schedule, absent_if_zero


def sgd(
    lr: Scalar | Schedule = 1e-3,
    momentum: Scalar = 0.0,
    dampening: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    nesterov: bool = False,
    *,
    maximize: bool = False,
) -> Chain:
    """Stochastic gradient descent, equal to `torch.optim.SGD`.

    Args:
        lr: the learning rate: a number, a 0-d array, or a schedule `count -> lr`.
        momentum: the weight of the old momentum buffer.
        dampening: one minus the weight of the gradient in the buffer; a parameter's first gradient
            is not dampened.
        weight_decay: this times the parameter is added to the gradient (L2), before momentum.
        nesterov: look ahead along the new buffer.
        maximize: ascend.

    Hyperparameters that are numbers are part of the compiled program, arrays are its data; a number
    that is zero leaves its term out.

    Raises:
        ValueError: as torch does, for a negative lr, momentum or weight_decay, and for Nesterov
            without momentum or with dampening.

    Source: the algorithm on torch's SGD page.

    Examples:
        >>> import jax.numpy as jnp, optax, torchwise
        >>> transform = torchwise.sgd(lr=0.5, momentum=0.9)
        >>> params = {"w": jnp.ones(2)}
        >>> state = transform.init(params)
        >>> updates, state = transform.update({"w": jnp.ones(2)}, state, params)
        >>> optax.apply_updates(params, updates)["w"]
        Array([0.5, 0.5], dtype=float32)
    """
    check_sgd(lr, momentum, dampening, weight_decay, nesterov)
    return build_sgd(lr, momentum, dampening, weight_decay, nesterov, maximize=maximize)


def check_sgd(
    lr: Any, momentum: Any, dampening: Any, weight_decay: Any, nesterov: bool, **_: Any
) -> None:
    """Raise as torch does for hyperparameters that it refuses, in its order."""
    if not callable(lr):
        check_single(lr)
        refuse(lr < 0.0, f"Invalid learning rate: {lr}")
    refuse(momentum < 0.0, f"Invalid momentum value: {momentum}")
    refuse(weight_decay < 0.0, f"Invalid weight_decay value: {weight_decay}")
    if nesterov:
        refuse(momentum <= 0, "Nesterov momentum requires a momentum and zero dampening")
        refuse(dampening != 0, "Nesterov momentum requires a momentum and zero dampening")


def build_sgd(
    lr: Any,
    momentum: Any,
    dampening: Any,
    weight_decay: Any,
    nesterov: bool,
    *,
    maximize: bool,
    **_: Any,
) -> Chain:
    """Chain the building blocks, whatever the hyperparameters are."""
    blocks = [ascend()] if maximize else []
    if absent_if_zero(weight_decay) is not None:
        blocks.append(add_decayed_weights(weight_decay))
    if absent_if_zero(momentum) is not None:
        blocks.append(trace(momentum, dampening, nesterov))
    return chain(*blocks, scale_by_learning_rate(lr))


SGD_GROUP = GroupFormat(
    name="SGD",
    check=check_sgd,
    build=build_sgd,
    defaults={
        "lr": 1e-3,
        "momentum": 0,
        "dampening": 0,
        "weight_decay": 0,
        "nesterov": False,
        "maximize": False,
        "foreach": None,
        "differentiable": False,
        "fused": None,
    },
    added_later={
        "nesterov": False,
        "maximize": False,
        "foreach": None,
        "differentiable": False,
        "fused": False,
    },
    memory=trace(1.0),
)
