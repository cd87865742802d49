"""Measure how far optax and torchwise end from torch, and draw it.

Needs torch. Run it from anywhere: it writes the figure next to this file, and the table into
`docs/from-optax.md`.
"""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
import torch

import torchwise

STEPS, SIZE = 50, 1000
PAGE = Path(__file__).parent.parent / "from-optax.md"
TABLE = re.compile(r"(<!-- distances: begin -->\n).*(<!-- distances: end -->)", re.DOTALL)


class Row(NamedTuple):
    """What torch does, and how optax and torchwise say it.

    Attributes:
        what: the setting, for the reader.
        theirs: torch's optimizer from parameters.
        closest: an expression of optax, and its name.
        ours: torchwise's.
        rate: torch's rate at a count, where it is no constant.
    """

    what: str
    theirs: Callable[[list[torch.Tensor]], torch.optim.Optimizer]
    closest: tuple[str, optax.GradientTransformation]
    ours: optax.GradientTransformation
    rate: Callable[[Any], Any] | None = None


def torchs(make: Callable[..., torch.optim.Optimizer], **values: Any) -> Callable[..., Any]:
    """A constructor that waits for the parameters."""
    return functools.partial(make, **values)


RATE = 0.1
SGD, ADAGRAD, RMSPROP = torch.optim.SGD, torch.optim.Adagrad, torch.optim.RMSprop
ADAM, RADAM = torch.optim.Adam, torch.optim.RAdam
DAMPED = {"lr": RATE, "momentum": 0.9, "dampening": 0.9}
DECAYED = {"lr": RATE, "momentum": 0.9, "weight_decay": 0.1}
SPREAD = {"lr": 0.01, "initial_accumulator_value": 0.1, "eps": 1e-2}
SMOOTHED = {"lr": 0.01, "momentum": 0.9}


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


ROWS = [
    Row(
        "SGD, momentum",
        torchs(SGD, lr=RATE, momentum=0.9),
        ("`sgd`", optax.sgd(RATE, 0.9)),
        torchwise.sgd(RATE, 0.9),
    ),
    Row(
        "SGD, decay 0.1",
        torchs(SGD, **DECAYED),
        (
            "`add_decayed_weights`, `sgd`",
            optax.chain(optax.add_decayed_weights(0.1), optax.sgd(RATE, 0.9)),
        ),
        torchwise.sgd(**DECAYED),
    ),
    Row(
        "SGD, dampening 0.9",
        torchs(SGD, **DAMPED),
        (
            "`ema`, `scale`",
            optax.chain(optax.ema(0.9, debias=False), optax.scale(-RATE)),
        ),
        torchwise.sgd(**DAMPED),
    ),
    Row(
        "SGD, dampening 0.9",
        torchs(SGD, **DAMPED),
        (
            "`scale_by_schedule`, `trace`, `scale`",
            optax.chain(
                optax.scale_by_schedule(undamped_first), optax.trace(0.9), optax.scale(-RATE)
            ),
        ),
        torchwise.sgd(**DAMPED),
    ),
    Row(
        "Adagrad, defaults",
        torchs(ADAGRAD, lr=0.01),
        ("`adagrad`", optax.adagrad(0.01)),
        torchwise.adagrad(0.01),
    ),
    Row(
        "Adagrad, defaults",
        torchs(ADAGRAD, lr=0.01),
        ("`adagrad(lr, 0.0, eps=0.0)`", optax.adagrad(0.01, 0.0, 0.0)),
        torchwise.adagrad(0.01),
    ),
    Row(
        "Adagrad, defaults",
        torchs(ADAGRAD, lr=0.01),
        ("`scale_by_rms`, three schedules", adagrad_of_means(0.01, 0.0, 1e-10)),
        torchwise.adagrad(0.01),
    ),
    Row(
        "Adagrad, accumulator 0.1, eps 1e-2",
        torchs(ADAGRAD, **SPREAD),
        ("`adagrad(lr, 0.1, 1e-2)`", optax.adagrad(0.01, 0.1, 1e-2)),
        torchwise.adagrad(**SPREAD),
    ),
    Row(
        "Adagrad, accumulator 0.1, eps 1e-2",
        torchs(ADAGRAD, **SPREAD),
        ("`scale_by_rms`, three schedules", adagrad_of_means(0.01, 0.1, 1e-2)),
        torchwise.adagrad(**SPREAD),
    ),
    Row(
        "RMSprop, momentum, the rate falls",
        torchs(RMSPROP, **SMOOTHED),
        (
            "`rmsprop(..., momentum=)`",
            optax.rmsprop(falling, 0.99, momentum=0.9, eps_in_sqrt=False),
        ),
        torchwise.rmsprop(falling, momentum=0.9),
        falling,
    ),
    Row(
        "RMSprop, momentum, the rate falls",
        torchs(RMSPROP, **SMOOTHED),
        (
            "`scale_by_rms`, `trace`, the rate",
            optax.chain(
                optax.scale_by_rms(0.99, eps_in_sqrt=False),
                optax.trace(0.9),
                optax.scale_by_learning_rate(falling),
            ),
        ),
        torchwise.rmsprop(falling, momentum=0.9),
        falling,
    ),
    Row(
        "Adam, amsgrad",
        torchs(ADAM, lr=0.01, amsgrad=True),
        ("`amsgrad`", optax.amsgrad(0.01)),
        torchwise.adam(0.01, amsgrad=True),
    ),
    Row(
        "Adam, amsgrad",
        torchs(ADAM, lr=0.01, amsgrad=True),
        (
            "`amsgrad`, two schedules",
            optax.inject_hyperparams(optax.amsgrad, static_args=("bias_correction_nu",))(
                lambda count: 0.01 * correction(count),
                eps=lambda count: 1e-8 * correction(count),
                bias_correction_nu=False,
            ),
        ),
        torchwise.adam(0.01, amsgrad=True),
    ),
    Row(
        "RAdam, eps 1e-2",
        torchs(RADAM, lr=0.01, eps=1e-2),
        ("`radam(lr, eps=1e-2)`", optax.radam(0.01, eps=1e-2)),
        torchwise.radam(0.01, eps=1e-2),
    ),
    Row(
        "RAdam, eps 1e-2",
        torchs(RADAM, lr=0.01, eps=1e-2),
        (
            "`radam`, a schedule for eps",
            optax.inject_hyperparams(optax.radam)(0.01, eps=lambda count: 1e-2 / correction(count)),
        ),
        torchwise.radam(0.01, eps=1e-2),
    ),
]


def of_torch(row: Row, start: np.ndarray, grads: np.ndarray) -> np.ndarray:
    """Where torch ends."""
    param = torch.from_numpy(start.copy())
    optimizer = row.theirs([param])
    for count, grad in enumerate(grads):
        if row.rate is not None:
            optimizer.param_groups[0]["lr"] = float(row.rate(count))
        param.grad = torch.from_numpy(grad)
        optimizer.step()
    return param.numpy()


def of_jax(transform: Any, start: np.ndarray, grads: np.ndarray) -> np.ndarray:
    """Where a gradient transformation ends."""

    @jax.jit
    def walk(start: jax.Array, grads: jax.Array) -> jax.Array:
        def step(carry: Any, grad: jax.Array) -> tuple[Any, None]:
            param, state = carry
            updates, state = transform.update(grad, state, param)
            return (optax.apply_updates(param, updates), state), None

        return jax.lax.scan(step, (start, transform.init(start)), grads)[0][0]

    return np.asarray(walk(jnp.asarray(start), jnp.asarray(grads)))


def measure() -> list[tuple[float, float, float]]:
    """For each row: how far optax and torchwise are from torch, and how far torch went."""
    rng = np.random.default_rng(0)
    start, grads = rng.normal(size=SIZE), rng.normal(size=(STEPS, SIZE))
    found = []
    with jax.enable_x64(True):
        for row in ROWS:
            end = of_torch(row, start, grads)
            away = [np.abs(of_jax(one, start, grads) - end) for one in (row.closest[1], row.ours)]
            found.append((away[0].max(), away[1].max(), np.abs(end - start).max()))
    return found


def table(found: list[tuple[float, float, float]]) -> str:
    """The measured distances in Markdown."""
    lines = [
        "| in torch | in optax | optax from torch | torchwise from torch | moved |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row, (optax_away, ours_away, moved) in zip(ROWS, found, strict=True):
        cells = (row.what, row.closest[0], short(optax_away), short(ours_away), f"{moved:.2g}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def short(distance: float) -> str:
    """A distance with as many digits as it takes."""
    return f"{distance:.2g}" if distance == 0 or distance > 0.01 else f"{distance:.0e}"


def draw(found: list[tuple[float, float, float]], path: Path) -> None:
    """Draw the distances as shares of the way."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5.6, 8.5), layout="constrained")
    rows = np.arange(len(ROWS))
    floor = 1e-17
    for offset, side, name, color in (
        (-0.2, 0, "optax", "#c8442b"),
        (0.2, 1, "torchwise", "#0b6e99"),
    ):
        shares = [max(one[side] / one[2], floor) for one in found]
        axes.barh(rows + offset, shares, 0.36, label=name, color=color)
        for row, one in zip(rows, found, strict=True):
            if one[side] == 0:
                axes.text(2 * floor, row + offset, "equal", va="center", fontsize=8)
    labels = [f"{row.what}\n{row.closest[0].replace('`', '')}" for row in ROWS]
    axes.set_yticks(rows, labels, fontsize=8)
    axes.set_ylim(len(ROWS) - 0.4, -1)
    axes.set_xscale("log")
    axes.set_xlim(floor, 10)
    axes.axvline(2**-53, color="0.6", lw=1, ls=":")
    axes.text(2**-53, -0.85, " rounding of float64", fontsize=8, color="0.4")
    axes.set_xlabel("distance from torch / how far torch went")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", frameon=False, ncols=2)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, write the table, draw the figure."""
    found = measure()
    print(table(found))
    text = PAGE.read_text()
    PAGE.write_text(TABLE.sub(lambda match: f"{match[1]}\n{table(found)}\n\n{match[2]}", text))
    draw(found, Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
