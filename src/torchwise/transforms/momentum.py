"""torch's momentum: an undamped first step, dampening, Nesterov."""

import dataclasses
from typing import Any, NamedTuple

import jax

from torchwise.transforms.arithmetic import add, constant_like, mul
from torchwise.transforms.chain import Chain, chain
from torchwise.transforms.numbers import Scalar, absent_if_zero, double
from torchwise.transforms.transform import Transform


class TraceState(NamedTuple):
    """The velocity, like the parameter in shape and type."""

    momentum_buffer: Any


class TraceScalars(NamedTuple):
    """The weights of the old buffer and of the new gradient."""

    momentum: Scalar
    weight: Scalar | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Trace(Transform):
    """buffer = momentum * buffer + (1 - dampening) * grad; the first one is grad itself."""

    momentum: Scalar
    dampening: Scalar | None
    nesterov: bool = dataclasses.field(metadata={"static": True})

    @property
    def counts(self) -> bool:
        """Only dampening has to know which gradient is a parameter's first."""
        return self.dampening is not None

    def init(self, param: jax.Array) -> TraceState:
        """A buffer of -0.0: with it `momentum * buffer + grad` is the first grad, to the bit.

        +0.0 would turn a gradient of -0.0 into +0.0.
        """
        return TraceState(momentum_buffer=constant_like(param, -0.0))

    def scalars(self, step: Any) -> TraceScalars:
        """Momentum, and `1 - dampening` from the second gradient on."""
        if self.dampening is None:
            return TraceScalars(self.momentum, None)
        return TraceScalars(self.momentum, 1 - self.dampening * double(step > 1))

    def accumulate(
        self, grad: jax.Array, state: TraceState, param: jax.Array, scalars: TraceScalars
    ) -> TraceState:
        """The buffer decays and takes up the gradient."""
        faded = mul(state.momentum_buffer, scalars.momentum)
        return TraceState(momentum_buffer=add(faded, grad, alpha=scalars.weight))

    def direction(
        self, grad: jax.Array, state: TraceState, param: jax.Array, scalars: TraceScalars
    ) -> jax.Array:
        """The new buffer, or with Nesterov the gradient plus momentum times the new buffer."""
        if self.nesterov:
            return add(grad, state.momentum_buffer, alpha=scalars.momentum)
        return state.momentum_buffer


def trace(momentum: Scalar, dampening: Scalar = 0.0, nesterov: bool = False) -> Chain:
    """Accumulate gradients in torch's momentum buffer and pass the buffer on.

    Each parameter's first buffer is its first gradient, undamped, whenever that comes.

    Args:
        momentum: the weight of the old buffer, a number or a 0-d array.
        dampening: one minus the weight of the gradient, from the second gradient on.
        nesterov: pass on `grad + momentum * buffer` instead of the buffer.

    Source: the momentum lines of the algorithm on torch's SGD page.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> block, param, grad = torchwise.trace(0.5), jnp.zeros(2), jnp.ones(2)
        >>> _, state = block.update(grad, block.init(param), param)
        >>> updates, state = block.update(grad, state, param)
        >>> updates
        Array([1.5, 1.5], dtype=float32)
    """
    return chain(Trace(momentum, absent_if_zero(dampening), nesterov))
