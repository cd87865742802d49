"""Gradients without elements beyond a given value."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from torchwise.norms import check_limit
from torchwise.numbers import Scalar, Schedule
from torchwise.rounding import clamp
from torchwise.rule import Block
from torchwise.transformation import Chain, block_chain


class ClipGradValue(Block):
    """max(min(grad, clip_value), -clip_value)."""

    in_strips: ClassVar[bool] = True

    clip_value: Scalar | Schedule

    def numbers(self, step: Any) -> Any:
        return self.clip_value

    def direction(self, grad: jax.Array, state: Any, param: jax.Array, n: Any) -> jax.Array:
        return clipped_by_value(grad, n)


def clipped_by_value(grad: jax.Array, limit: Any) -> jax.Array:
    """Return `grad.clamp(-limit, limit)`; NaN stays.

    Raises:
        NotImplementedError: as torch does, for a complex gradient.
    """
    if jnp.iscomplexobj(grad):
        raise NotImplementedError("clamp is not supported for complex types")
    return clamp(grad, -limit, limit)


def clip_grad_value(clip_value: Scalar | Schedule) -> Chain:
    """Replace every element of a gradient below `-clip_value` or above `clip_value` by that.

    Args:
        clip_value: in the gradients' unit, a number of at least 0, a 0-d array, or a function of
            the number of steps before this one.

    Raises:
        ValueError: for a `clip_value` that is negative or NaN.
        NotImplementedError: by a step, for complex gradients, as in torch.

    Source: `torch.nn.utils.clip_grad_value_`.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> block, param = torchwise.clip_grad_value(1.0), jnp.zeros(3)
        >>> block.update(jnp.array([0.5, 8.0, -8.0]), block.init(param), param)[0]
        Array([ 0.5,  1. , -1. ], dtype=float32)
    """
    made = block_chain(ClipGradValue(clip_value), "clip_grad_value")
    check_limit("clip_grad_value(): clip_value", clip_value)
    return made
