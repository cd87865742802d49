"""dragon.vm.torch.optim.SGD."""

from typing import Any

from torchwise.optimizers.sgd import check_sgd
from torchwise.transforms.chain import Chain, chain
from torchwise.transforms.clipping import clip_by_norm
from torchwise.transforms.decay import add_decayed_weights
from torchwise.transforms.learning_rate import scale_by_learning_rate
from torchwise.transforms.momentum_with_lr import trace_with_lr
from torchwise.transforms.numbers import Scalar, Schedule, absent_if_zero
from torchwise.transforms.scale import scale as multiply


def dragon_sgd(
    lr: Scalar | Schedule,
    momentum: Scalar = 0.0,
    dampening: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    nesterov: bool = False,
    scale: Scalar = 1.0,
    clip_norm: Scalar = 0.0,
    *,
    momentum_correction: bool = False,
) -> Chain:
    """Dragon's stochastic gradient descent: the learning rate is inside the momentum buffer.

    The gradient is scaled, clipped, decayed, and then moves the parameter by

    - `-lr * grad` without momentum (as torch's SGD, to the bit),
    - `-(momentum * m_old + lr * grad)` with momentum,
    - `-((1 + momentum) * m - momentum * m_old)` with Nesterov, `m = momentum * m_old + lr * grad`.

    Under a constant learning rate this is torch's SGD up to rounding, under a changing one not.

    Args:
        lr: the learning rate (times a group's `lr_mult`): a number, a 0-d array, or a schedule
            `count -> lr`.
        momentum: the weight of the old buffer.
        dampening: without effect, as in Dragon; Nesterov refuses it.
        weight_decay: this (times a group's `decay_mult`) times the parameter is added to the
            gradient (L2), which is neither scaled nor clipped with it.
        nesterov: look ahead along the new buffer.
        scale: multiplies the gradient first; `1 / k` for a sum over k micro batches.
        clip_norm: bounds the L2 norm of each array's scaled gradient; zero and less do not.
        momentum_correction: bring the old buffer to the new rate, so that the result is torch's SGD
            also under changing rates, rates of zero included. Dragon's sources do this for one
            parameter a group and lose the buffer at a rate of zero; here it holds for every
            parameter, and for Nesterov, too.

    Hyperparameters that are numbers are part of the compiled program, arrays are its data; a number
    that has no effect leaves its term out.

    Raises:
        ValueError: as Dragon does, for a negative lr or momentum and for Nesterov without momentum
            or with dampening; for a negative weight_decay, which Dragon ignores in silence.

    Source: Dragon's SGD page, of July 2020; the order of the terms is that of its sources.

    Examples:
        >>> import jax.numpy as jnp, optax, torchwise
        >>> transform = torchwise.dragon_sgd(lr=0.5, momentum=0.9)
        >>> params = {"w": jnp.ones(2)}
        >>> state = transform.init(params)
        >>> updates, state = transform.update({"w": jnp.ones(2)}, state, params)
        >>> optax.apply_updates(params, updates)["w"]
        Array([0.5, 0.5], dtype=float32)
    """
    check_sgd(lr, momentum, dampening, weight_decay, nesterov)
    return build_dragon_sgd(
        lr,
        momentum,
        weight_decay,
        nesterov,
        scale,
        clip_norm,
        momentum_correction=momentum_correction,
    )


def build_dragon_sgd(
    lr: Any,
    momentum: Any,
    weight_decay: Any,
    nesterov: bool,
    scale: Any,
    clip_norm: Any,
    *,
    momentum_correction: bool,
    **_: Any,
) -> Chain:
    """Chain the building blocks, whatever the hyperparameters are."""
    blocks = [] if absent_if_zero(scale - 1) is None else [multiply(scale)]
    if absent_if_zero(clip_norm) is not None:
        blocks.append(clip_by_norm(clip_norm))
    if absent_if_zero(weight_decay) is not None:
        blocks.append(add_decayed_weights(weight_decay))
    if absent_if_zero(momentum) is None:
        return chain(*blocks, scale_by_learning_rate(lr))
    return chain(*blocks, trace_with_lr(lr, momentum, nesterov, momentum_correction))
