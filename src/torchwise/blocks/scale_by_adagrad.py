"""Adagrad's accumulator of squared gradients."""

from typing import Any, ClassVar, NamedTuple

import jax

from torchwise.numbers import Scalar
from torchwise.rounding import Quotient, add, addcmul, div, full_like, sqrt, square
from torchwise.rule import Block
from torchwise.transformation import Chain, block_chain


class ScaleByAdagradState(NamedTuple):
    """The sum of squared gradients, like the parameter in shape and type."""

    sum: Any


class ScaleByAdagrad(Block):
    """sum = sum + grad**2; grad / (sqrt(sum) + eps)."""

    State: ClassVar = ScaleByAdagradState
    in_torch: ClassVar = ("initial_accumulator_value", "eps")
    in_strips: ClassVar[bool] = True

    initial_accumulator_value: Scalar = 0.0
    eps: Scalar = 1e-10

    def init(self, param: jax.Array) -> ScaleByAdagradState:
        return ScaleByAdagradState(full_like(param, self.initial_accumulator_value))

    def for_gradient(self, sparse: bool) -> "ScaleByAdagrad | ScaleRowsByAdagrad":
        return ScaleRowsByAdagrad() if sparse else self

    def numbers(self, step: Any) -> Scalar:
        return self.eps

    def accumulate(
        self, grad: jax.Array, state: ScaleByAdagradState, param: jax.Array, n: Any
    ) -> ScaleByAdagradState:
        return ScaleByAdagradState(addcmul(state.sum, grad, grad))

    def direction(
        self, grad: jax.Array, state: ScaleByAdagradState, param: jax.Array, n: Any
    ) -> Quotient:
        return Quotient(grad, add(sqrt(state.sum), n))


class ScaleRowsByAdagrad(Block):
    """The same for rows of a sparse gradient, whose square and quotient torch rounds first."""

    State: ClassVar = ScaleByAdagradState

    def accumulate(
        self, grad: jax.Array, state: ScaleByAdagradState, param: jax.Array, n: Any
    ) -> ScaleByAdagradState:
        return ScaleByAdagradState(add(state.sum, square(grad)))

    def direction(
        self, grad: jax.Array, state: ScaleByAdagradState, param: jax.Array, n: Any
    ) -> jax.Array:
        return div(grad, add(sqrt(state.sum), n))


def scale_by_adagrad(initial_accumulator_value: Scalar = 0.0, eps: Scalar = 1e-10) -> Chain:
    """Divide each gradient by the root of the sum of its squares so far, plus `eps`.

    Args:
        initial_accumulator_value: where the sum starts.
        eps: added outside the square root, in the gradient's unit.

    Source: the algorithm on torch's Adagrad page; Duchi et al., JMLR 12 (2011).

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> block, param = torchwise.scale_by_adagrad(), jnp.zeros(2)
        >>> updates, state = block.update(jnp.array([3.0, -4.0]), block.init(param), param)
        >>> updates, state.states[0].sum
        (Array([ 1., -1.], dtype=float32), Array([ 9., 16.], dtype=float32))
    """
    return block_chain(ScaleByAdagrad(initial_accumulator_value, eps), "scale_by_adagrad")
