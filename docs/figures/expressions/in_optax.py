"""What torch's optimizers do, written in optax: the rows of `optax_distance.py`."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

STEPS = 50


class Row(NamedTuple):
    """A setting of torch, and one way to write it in optax.

    Attributes:
        what: the setting, for the reader.
        name: the optimizer in torch; torchwise's function is the same in lower case.
        values: its arguments, for torch and for torchwise.
        expression: the expression in optax, for the reader.
        in_optax: the expression itself.
    """

    what: str
    name: str
    values: dict[str, Any]
    expression: str
    in_optax: optax.GradientTransformation


def falling(count: Any) -> Any:
    """A rate that falls to a sixth half way."""
    return jnp.where(count < STEPS // 2, 0.01, 0.01 / 6)


def undamped_first(count: Any) -> Any:
    """The weight of a gradient in torch's buffer with dampening 0.9."""
    return jnp.where(count == 0, 1.0, 1 - 0.9)


def correction(count: Any) -> Any:
    """What corrects the root of Adam's average of squares at a count from 0 on."""
    return jnp.sqrt(1 - 0.999 ** (count + 1.0))


def adagrad_of_means(lr: float, first: float, eps: float) -> optax.GradientTransformation:
    """Adagrad from the mean of all squares, whose weights are schedules.

    `scale_by_rms` has eps outside of its root, but averages where Adagrad adds. With the weight
    `n / (n + 1)` for the old average, n squares make their mean, and the root of n is put back.
    """
    extra = 1.0 if first else 0.0  # the accumulator's first value counts as a square
    scaled = optax.inject_hyperparams(optax.scale_by_rms, static_args=("eps_in_sqrt",))(
        decay=lambda count: (count + extra) / (count + extra + 1.0),
        eps=lambda count: eps / jnp.sqrt(count + extra + 1.0),
        initial_scale=first,
        eps_in_sqrt=False,
    )
    back = optax.scale_by_schedule(lambda count: 1 / jnp.sqrt(count + extra + 1.0))
    return optax.chain(scaled, back, optax.scale_by_learning_rate(lr))


# What torch does, and the expressions of optax for it.
SETTINGS = [
    (
        "SGD, momentum",
        ("SGD", {"lr": 0.1, "momentum": 0.9}),
        [("`sgd`", optax.sgd(0.1, 0.9))],
    ),
    (
        "SGD, decay 0.1",
        ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
        [
            (
                "`add_decayed_weights`, `sgd`",
                optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, 0.9)),
            )
        ],
    ),
    (
        "SGD, dampening 0.9",
        ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.9}),
        [
            ("`ema`, `scale`", optax.chain(optax.ema(0.9, debias=False), optax.scale(-0.1))),
            (
                "`scale_by_schedule`, `trace`, `scale`",
                optax.chain(
                    optax.scale_by_schedule(undamped_first), optax.trace(0.9), optax.scale(-0.1)
                ),
            ),
        ],
    ),
    (
        "Adagrad, defaults",
        ("Adagrad", {"lr": 0.01}),
        [
            ("`adagrad`", optax.adagrad(0.01)),
            ("`adagrad(lr, 0.0, eps=0.0)`", optax.adagrad(0.01, 0.0, 0.0)),
            ("`scale_by_rms`, three schedules", adagrad_of_means(0.01, 0.0, 1e-10)),
        ],
    ),
    (
        "Adagrad, accumulator 0.1, eps 1e-2",
        ("Adagrad", {"lr": 0.01, "initial_accumulator_value": 0.1, "eps": 1e-2}),
        [
            ("`adagrad(lr, 0.1, 1e-2)`", optax.adagrad(0.01, 0.1, 1e-2)),
            ("`scale_by_rms`, three schedules", adagrad_of_means(0.01, 0.1, 1e-2)),
        ],
    ),
    (
        "RMSprop, momentum, the rate falls",
        ("RMSprop", {"lr": falling, "momentum": 0.9}),
        [
            (
                "`rmsprop(..., momentum=)`",
                optax.rmsprop(falling, 0.99, momentum=0.9, eps_in_sqrt=False),
            ),
            (
                "`scale_by_rms`, `trace`, the rate",
                optax.chain(
                    optax.scale_by_rms(0.99, eps_in_sqrt=False),
                    optax.trace(0.9),
                    optax.scale_by_learning_rate(falling),
                ),
            ),
        ],
    ),
    (
        "Adam, amsgrad",
        ("Adam", {"lr": 0.01, "amsgrad": True}),
        [
            ("`amsgrad`", optax.amsgrad(0.01)),
            (
                "`amsgrad`, two schedules",
                optax.inject_hyperparams(optax.amsgrad, static_args=("bias_correction_nu",))(
                    lambda count: 0.01 * correction(count),
                    eps=lambda count: 1e-8 * correction(count),
                    bias_correction_nu=False,
                ),
            ),
        ],
    ),
    (
        "RAdam, eps 1e-2",
        ("RAdam", {"lr": 0.01, "eps": 1e-2}),
        [
            ("`radam(lr, eps=1e-2)`", optax.radam(0.01, eps=1e-2)),
            (
                "`radam`, a schedule for eps",
                optax.inject_hyperparams(optax.radam)(
                    0.01, eps=lambda count: 1e-2 / correction(count)
                ),
            ),
        ],
    ),
]
ROWS = [Row(what, *ours, *peer) for what, ours, peers in SETTINGS for peer in peers]
