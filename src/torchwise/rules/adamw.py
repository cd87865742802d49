"""torch.optim.AdamW."""

from dataclasses import field
from typing import ClassVar

from torchwise.fields import term
from torchwise.numbers import Scalar
from torchwise.rules.adam import Adam
from torchwise.transformation import as_function


class AdamW(Adam):
    """Adam with decoupled weight decay, equal to `torch.optim.AdamW` as `adam` is to Adam.

    Args:
        lr: the learning rate: a number, a 0-d array, or a schedule `count -> lr`.
        betas: the weights of the old averages: of gradients, and of their squares.
        eps: added to the corrected root, outside of it, in the gradient's unit.
        weight_decay: the parameter is multiplied by `1 - lr * weight_decay` before it moves.
        amsgrad: divide by the largest average of squares so far.
        foreach: chooses an implementation in torch; without effect, as are `capturable`,
            `differentiable` and `fused`.
        maximize: ascend.
        capturable: without effect.
        differentiable: without effect.
        fused: without effect.

    Raises:
        ValueError: as torch does, for hyperparameters that are negative or NaN, and for betas that
            are not below 1.

    Source: the algorithm on torch's AdamW page; Loshchilov and Hutter, arXiv:1711.05101.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.adamw(lr=0.5, weight_decay=0.5)
        >>> params = jnp.array([2.0])
        >>> transform.step(jnp.array([3.0]), transform.init(params), params)[0]
        Array([1.], dtype=float32)
    """

    name: ClassVar[str] = "AdamW"
    fixed: ClassVar = {"decoupled_weight_decay": True}

    weight_decay: Scalar = term(default=1e-2)
    decoupled_weight_decay: bool = field(default=True, init=False)


adamw = as_function(AdamW, "adamw")
