"""The averages of Adam and of what descends from it."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from torchwise.doubles import power
from torchwise.numbers import Scalar, check_rate, double, is_array, refuse, require
from torchwise.rounding import addcmul, lerp, mul


class Decays(NamedTuple):
    """The weights of both averages in a step, and what corrects that they started at zero.

    Attributes:
        rest1: `1 - beta1`, the weight of the gradient in the first average.
        beta2: the weight of the old second average.
        rest2: `1 - beta2`, the weight of the squared gradient.
        correction1: `1 - beta1**t`.
        correction2: `1 - beta2**t`.
    """

    rest1: Scalar
    beta2: Scalar
    rest2: Scalar
    correction1: Any
    correction2: Any


def check_shared(rule: Any) -> None:
    """Raise what torch raises for an invalid lr, eps, betas or weight_decay, in this order."""
    check_rate(rule.lr)
    require(0.0 <= rule.eps, f"Invalid epsilon value: {rule.eps}")
    check_betas(rule.betas)
    require(0.0 <= rule.weight_decay, f"Invalid weight_decay value: {rule.weight_decay}")


def check_betas(betas: Sequence[Scalar]) -> None:
    """Raise what torch raises for invalid betas."""
    for index, beta in enumerate(betas):
        require(0.0 <= beta, f"Invalid beta parameter at index {index}: {beta}")
        require(beta < 1.0, f"Invalid beta parameter at index {index}: {beta}")


def check_tensors(betas: Sequence[Scalar], eager: Any) -> None:
    """Raise a ValueError unless both are floats, or both arrays of one element.

    Args:
        betas: the two.
        eager: whether torch's implementation needs floats.
    """
    floats = all(isinstance(beta, float) for beta in betas)
    message = "betas must be either both floats or both Tensors"
    refuse(not floats and not all(map(is_array, betas)), message)
    for index, beta in enumerate(betas):
        if is_array(beta):
            which = f"betas[{index}] as a Tensor is not supported for"
            refuse(eager, f"{which} capturable=False and foreach=True")
            require(np.size(beta) == 1, f"Tensor betas[{index}] must be 1-element")


def decays_at(betas: Sequence[Scalar], step: Any) -> Decays:
    """Return the weights and the corrections of a step, in double precision."""
    beta1, beta2 = betas
    if type(beta1) is float and type(beta2) is float and type(step) is int:
        return _known_decays(beta1, beta2, step)
    return _decays(beta1, beta2, step)


def _decays(beta1: Any, beta2: Any, step: Any) -> Decays:
    # torch casts the first beta, where it is a tensor, to the type of the parameter.
    rest1 = 1 - double(beta1)
    return Decays(rest1, beta2, 1 - beta2, 1 - power(beta1, step), 1 - power(beta2, step))


_known_decays = functools.lru_cache(maxsize=64)(_decays)  # many groups have the same


def averaged(average: jax.Array, grad: jax.Array, n: Decays) -> jax.Array:
    """Return the average of gradients with a new one."""
    return lerp(average, grad, n.rest1)


def averaged_squares(average: jax.Array, grad: jax.Array, n: Decays) -> jax.Array:
    """Return the average of squared gradients with a new one."""
    return addcmul(mul(average, n.beta2), grad, grad, value=n.rest2)
