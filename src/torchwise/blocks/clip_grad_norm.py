"""Gradients whose norm, that of all together, is no longer than a given one."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax

from torchwise.norms import check_limit, clip_coefficient, refuse_nonfinite, total_norm
from torchwise.numbers import Scalar, Schedule
from torchwise.rounding import mul
from torchwise.rule import Block
from torchwise.transformation import Chain, block_chain


class ClipGradNorm(Block):
    """grad * min(max_norm / (norm of all gradients + 1e-6), 1)."""

    gathers: ClassVar = True
    in_strips: ClassVar[bool] = True

    max_norm: Scalar | Schedule
    norm_type: float = dataclasses.field(default=2.0, metadata={"static": True})
    error_if_nonfinite: bool = False

    def numbers(self, step: Any) -> Any:
        return self.max_norm

    def gather(self, grads: Sequence[jax.Array]) -> jax.Array:
        norm = total_norm(grads, self.norm_type)
        if self.error_if_nonfinite:
            refuse_nonfinite(norm, self.norm_type)
        return norm

    def numbers_with(self, n: Any, gathered: jax.Array) -> jax.Array:
        return clip_coefficient(n, gathered)

    def direction(self, grad: jax.Array, state: Any, param: jax.Array, n: Any) -> jax.Array:
        return mul(grad, n)


def clip_grad_norm(
    max_norm: Scalar | Schedule, norm_type: float | str = 2.0, error_if_nonfinite: bool = False
) -> Chain:
    """Shorten all gradients by one factor if the norm of all together is greater than `max_norm`.

    The norm is that of the gradients as the blocks in front pass them on, over the whole tree and
    all parameter groups; `get_total_norm` has its details. As the first block it keeps nothing of
    a tree: the gradients are read once more. Behind other blocks, XLA on CPU keeps what those pass
    on. The gradients are always multiplied by the factor, `min(max_norm / (norm + 1e-6), 1)`: a
    norm that is infinite turns finite gradients into 0 and others into NaN, and a norm that is NaN
    turns all into NaN.

    Args:
        max_norm: in the gradients' unit, a number of at least 0, a 0-d array, or a function of the
            number of steps before this one.
        norm_type: see `get_total_norm`.
        error_if_nonfinite: raise an error for a norm that is infinite or NaN, and change nothing.
            A compiled program cannot raise, so this is refused under `jax.jit`.

    Raises:
        ValueError: for a `max_norm` that is negative or NaN, which would turn gradients around.
        RuntimeError: by a step, with `error_if_nonfinite`.

    Source: `torch.nn.utils.clip_grad_norm_`.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> transform = torchwise.chain(torchwise.clip_grad_norm(6.5), torchwise.sgd(lr=1.0))
        >>> params = {"w": jnp.zeros(2), "b": jnp.zeros(1)}
        >>> grads = {"w": jnp.array([3.0, 4.0]), "b": jnp.array([12.0])}
        >>> params, state = transform.step(grads, transform.init(params), params)
        >>> [f"{float(value):.3f}" for value in (*params["w"], *params["b"])]
        ['-1.500', '-2.000', '-6.000']
    """
    block = ClipGradNorm(max_norm, float(norm_type), error_if_nonfinite)
    made = block_chain(block, "clip_grad_norm")
    check_limit("clip_grad_norm(): max_norm", max_norm)
    return made
