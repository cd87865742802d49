"""torch.optim.Adagrad."""

from typing import Any

from torchwise.optimizers.group_format import GroupFormat
from torchwise.optimizers.validation import check_single, require
from torchwise.transforms.adagrad_scaling import scale_by_adagrad
from torchwise.transforms.chain import Chain, chain
from torchwise.transforms.decay import add_decayed_weights
from torchwise.transforms.learning_rate import scale_by_learning_rate
from torchwise.transforms.maximization import maximize as ascend
from torchwise.transforms.numbers import Scalar, Schedule, absent_if_zero


def adagrad(
    lr: Scalar | Schedule = 1e-2,
    lr_decay: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    initial_accumulator_value: Scalar = 0.0,
    eps: Scalar = 1e-10,
    *,
    maximize: bool = False,
) -> Chain:
    """Adagrad, equal to `torch.optim.Adagrad` up to the rounding of torch's square root.

    Args:
        lr: the learning rate: a number, a 0-d array, or a schedule `count -> lr`.
        lr_decay: divides the rate by `1 + (t - 1) * lr_decay` at a parameter's t-th gradient.
        weight_decay: this times the parameter is added to the gradient (L2).
        initial_accumulator_value: where the sums of squares start.
        eps: added to the root of the sum, outside of it.
        maximize: ascend.

    Hyperparameters that are numbers are part of the compiled program, arrays are its data; a number
    that is zero leaves its term out.

    Raises:
        ValueError: as torch does, for hyperparameters that are negative or NaN.

    Source: the algorithm on torch's Adagrad page; Duchi et al., JMLR 12 (2011).

    Examples:
        >>> import jax.numpy as jnp, optax, torchwise
        >>> transform = torchwise.adagrad(lr=0.5)
        >>> params = {"w": jnp.ones(2)}
        >>> state = transform.init(params)
        >>> updates, state = transform.update({"w": jnp.ones(2)}, state, params)
        >>> optax.apply_updates(params, updates)["w"]
        Array([0.5, 0.5], dtype=float32)
    """
    check_adagrad(lr, lr_decay, weight_decay, initial_accumulator_value, eps)
    return build_adagrad(
        lr, lr_decay, weight_decay, initial_accumulator_value, eps, maximize=maximize
    )


def check_adagrad(
    lr: Any, lr_decay: Any, weight_decay: Any, initial_accumulator_value: Any, eps: Any, **_: Any
) -> None:
    """Raise as torch does for hyperparameters that it refuses, in its order."""
    if not callable(lr):
        check_single(lr)
        require(0.0 <= lr, f"Invalid learning rate: {lr}")
    require(0.0 <= lr_decay, f"Invalid lr_decay value: {lr_decay}")
    require(0.0 <= weight_decay, f"Invalid weight_decay value: {weight_decay}")
    require(
        0.0 <= initial_accumulator_value,
        f"Invalid initial_accumulator_value value: {initial_accumulator_value}",
    )
    require(0.0 <= eps, f"Invalid epsilon value: {eps}")


def build_adagrad(
    lr: Any,
    lr_decay: Any,
    weight_decay: Any,
    initial_accumulator_value: Any,
    eps: Any,
    *,
    maximize: bool,
    **_: Any,
) -> Chain:
    """Chain the building blocks, whatever the hyperparameters are."""
    blocks = [ascend()] if maximize else []
    if absent_if_zero(weight_decay) is not None:
        blocks.append(add_decayed_weights(weight_decay))
    accumulator = scale_by_adagrad(initial_accumulator_value, eps)
    return chain(*blocks, accumulator, scale_by_learning_rate(lr, lr_decay))


ADAGRAD_GROUP = GroupFormat(
    name="Adagrad",
    check=check_adagrad,
    build=build_adagrad,
    defaults={
        "lr": 1e-2,
        "lr_decay": 0,
        "eps": 1e-10,
        "weight_decay": 0,
        "initial_accumulator_value": 0,
        "foreach": None,
        "maximize": False,
        "differentiable": False,
        "fused": None,
    },
    added_later={"foreach": None, "maximize": False, "differentiable": False, "fused": None},
    memory=scale_by_adagrad(),
    starts_with_state=True,
)
