"""torch's momentum: an undamped first step, dampening, Nesterov."""

from typing import Any, ClassVar, NamedTuple, Self

import jax

from torchwise.fields import term
from torchwise.numbers import Scalar, double
from torchwise.rounding import add, full_like, mul
from torchwise.rule import Block
from torchwise.transformation import Chain, block_chain


class TraceState(NamedTuple):
    """The velocity, like the parameter in shape and type."""

    momentum_buffer: Any


class TraceNumbers(NamedTuple):
    """The weights of the old buffer and of the new gradient."""

    momentum: Scalar
    weight: Scalar | None


class Trace(Block):
    """buffer = momentum * buffer + (1 - dampening) * grad; the first one is grad itself."""

    State: ClassVar = TraceState
    in_torch: ClassVar = ("momentum", "dampening", "nesterov")
    in_strips: ClassVar[bool] = True

    momentum: Scalar
    dampening: Scalar = term(default=0.0)
    nesterov: bool = False

    @property
    def counts(self) -> bool:
        """Only dampening has to know which gradient is a parameter's first."""
        return self.has("dampening")

    def for_gradient(self, sparse: bool) -> Self:
        if sparse:  # the buffer moves every row; torch makes it sparse, and it grows
            raise RuntimeError(
                "momentum is not compatible with sparse gradients: pass grad.todense(), or use "
                "SGD without momentum, Adagrad or SparseAdam"
            )
        return self

    def init(self, param: jax.Array) -> TraceState:
        """A buffer of -0.0: with it `momentum * buffer + grad` is the first grad, to the bit.

        +0.0 would turn a gradient of -0.0 into +0.0.
        """
        return TraceState(full_like(param, -0.0))

    def numbers(self, step: Any) -> TraceNumbers:
        if not self.has("dampening"):
            return TraceNumbers(self.momentum, None)
        return TraceNumbers(self.momentum, 1 - self.dampening * double(step > 1))

    def accumulate(
        self, grad: jax.Array, state: TraceState, param: jax.Array, n: TraceNumbers
    ) -> TraceState:
        faded = mul(state.momentum_buffer, n.momentum)
        return TraceState(add(faded, grad, alpha=n.weight))

    def direction(
        self, grad: jax.Array, state: TraceState, param: jax.Array, n: TraceNumbers
    ) -> jax.Array:
        if self.nesterov:
            return add(grad, state.momentum_buffer, alpha=n.momentum)
        return state.momentum_buffer


def trace(momentum: Scalar, dampening: Scalar = 0.0, nesterov: bool = False) -> Chain:
    """Accumulate gradients in torch's momentum buffer and pass the buffer on.

    Each parameter's first buffer is its first gradient, undamped.

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
    return block_chain(Trace(momentum, dampening, nesterov), "trace")
