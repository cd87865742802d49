"""Momentum buffers of torch's SGD and velocities of Dragon's, one from the other.

A velocity is `lr` times a momentum buffer for as long as every gradient in it was taken in at the
same learning rate. Where that does not hold, the conversion refuses.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from torchwise.numbers import Scalar, refuse
from torchwise.rounding import div, mul


def velocities_from_torch(
    momentum_buffers: Any,
    lr: Any,
    *,
    initial_lr: Scalar | None = None,
    dampening: Scalar = 0.0,
    allow_inexact: bool = False,
) -> Any:
    """Return `lr * momentum_buffer`: what Dragon's SGD would hold after the same gradients.

    Each product is rounded once, from an `lr` that was rounded to the buffer's type.

    Args:
        momentum_buffers: a tree of arrays; None (no gradient yet) stays None.
        lr: the learning rate of the last step: a number, a 0-d array, or a tree of them that is a
            prefix of `momentum_buffers`. With `momentum_correction` it is the state's `last_lr`,
            and the conversion is exact whatever the rates have been.
        initial_lr: the learning rate of the first step, torch's key of this name in a group with a
            scheduler; to be left out where the rate has not changed.
        dampening: of torch's SGD.
        allow_inexact: convert also what is not exact: the velocity of a run whose last rate had
            been its rate throughout, dampened gradients as they are.

    Raises:
        ValueError: if the conversion is not exact and `allow_inexact` is false.
        TypeError: if `lr` is a schedule.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import dragon
        >>> dragon.velocities_from_torch({"w": jnp.ones(2)}, lr=0.5)["w"]
        Array([0.5, 0.5], dtype=float32)
    """
    _check("velocities_from_torch()", lr, initial_lr, dampening, allow_inexact)
    return _map(mul, momentum_buffers, lr)


def torch_buffers_from_dragon(
    velocities: Any,
    lr: Any,
    *,
    initial_lr: Scalar | None = None,
    dampening: Scalar = 0.0,
    allow_inexact: bool = False,
) -> Any:
    """Return `velocity / lr`: torch's momentum buffer after the same gradients.

    Each quotient is rounded once, from an `lr` that was rounded to the velocity's type.

    Args:
        velocities: a tree of arrays, the state's `velocity`; None stays None.
        lr: as in `velocities_from_torch`, but not zero.
        initial_lr: the learning rate of the first step, where it has changed since.
        dampening: of the torch SGD that is to go on; Dragon has none.
        allow_inexact: convert also what is not exact: torch's next step then moves the parameters
            as Dragon's would.

    Raises:
        ValueError: if `lr` is zero, or the conversion is not exact and `allow_inexact` is false.
        TypeError: if `lr` is a schedule.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import dragon
        >>> dragon.torch_buffers_from_dragon({"w": jnp.ones(2)}, lr=0.5)["w"]
        Array([2., 2.], dtype=float32)
    """
    call = "torch_buffers_from_dragon()"
    _check(call, lr, initial_lr, dampening, allow_inexact)
    for rate in jax.tree.leaves(lr):
        refuse(
            rate == 0, f"{call}: a velocity at a learning rate of 0 says nothing about gradients"
        )
    return _map(div, velocities, lr)


def _check(call: str, lr: Any, initial_lr: Any, dampening: Any, allow_inexact: bool) -> None:
    if callable(lr):
        raise TypeError(f"{call}: lr is a schedule; give the learning rate of the last step")
    if allow_inexact:
        return
    remedy = "pass allow_inexact=True to convert nevertheless"
    if initial_lr is not None:
        for rate in jax.tree.leaves(lr):
            refuse(
                rate != initial_lr,
                f"{call}: not exact, the learning rate has changed from {initial_lr} to {rate} and "
                f"the velocity holds gradients at both; {remedy}",
            )
    refuse(
        dampening != 0,
        f"{call}: not exact, dampening is {dampening} and Dragon has none; {remedy}",
    )


def _map(convert: Callable[[jax.Array, Any], jax.Array], arrays: Any, lr: Any) -> Any:
    rates = jax.tree.broadcast(lr, arrays)
    return jax.tree.map(lambda array, rate: convert(jnp.asarray(array), rate), arrays, rates)
