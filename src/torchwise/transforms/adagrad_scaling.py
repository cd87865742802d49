"""Adagrad's accumulator of squared gradients."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax

from torchwise.transforms.arithmetic import Scaled, add_square, constant_like, sqrt_add
from torchwise.transforms.chain import Chain, chain
from torchwise.transforms.numbers import Scalar
from torchwise.transforms.transform import Transform


class ScaleByAdagradState(NamedTuple):
    """The sum of squared gradients, like the parameter in shape and type."""

    sum: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ScaleByAdagrad(Transform):
    """sum = sum + grad**2; grad / (sqrt(sum) + eps)."""

    saves_step: ClassVar[bool] = True

    initial_accumulator_value: Scalar
    eps: Scalar

    @property
    def counts(self) -> bool:
        """Torch's Adagrad keeps a step for every parameter."""
        return True

    def init(self, param: jax.Array) -> ScaleByAdagradState:
        """The accumulator before the first gradient."""
        return ScaleByAdagradState(sum=constant_like(param, self.initial_accumulator_value))

    def scalars(self, step: Any) -> Scalar:
        """Epsilon, which is added outside the square root."""
        return self.eps

    def accumulate(
        self, grad: jax.Array, state: ScaleByAdagradState, param: jax.Array, scalars: Any
    ) -> ScaleByAdagradState:
        """The accumulator takes up the squared gradient."""
        return ScaleByAdagradState(sum=add_square(state.sum, grad))

    def direction(
        self, grad: jax.Array, state: ScaleByAdagradState, param: jax.Array, scalars: Any
    ) -> Scaled:
        """The gradient over the root of the new accumulator."""
        return Scaled(grad, denominator=sqrt_add(state.sum, scalars))


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
    return chain(ScaleByAdagrad(initial_accumulator_value, eps))
