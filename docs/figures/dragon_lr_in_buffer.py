"""Draw Dragon's and torch's momentum on a quadratic whose learning rate drops.

Run it from anywhere: the figure is written next to this file.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np

import torchwise

DROP, STEPS = 12, 40
RATES = np.where(np.arange(STEPS) < DROP, 0.02, 0.002)
RULES = {
    "torchwise.sgd": (torchwise.sgd, {}, {"color": "#0b6e99", "lw": 2}),
    "dragon.sgd": (torchwise.dragon.sgd, {}, {"color": "#c8442b", "lw": 2}),
    "dragon.sgd(momentum_correction=True)": (
        torchwise.dragon.sgd,
        {"momentum_correction": True},
        {"color": "black", "lw": 1.2, "ls": (0, (2, 3))},
    ),
}


def trajectory(factory: Callable[..., Any], options: dict[str, Any]) -> np.ndarray:
    """The parameter x under the loss x**2 / 2, whose gradient is x, from x = 1."""

    @jax.jit
    def step(lr: jax.Array, state: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        return factory(lr, momentum=0.9, **options).step(x, state, x)

    x = jnp.ones(())
    state, points = factory(0.0, momentum=0.9, **options).init(x), [1.0]
    for lr in RATES:
        x, state = step(jnp.asarray(lr, jnp.float32), state, x)
        points.append(float(x))
    return np.array(points)


def main() -> None:
    """Write the figure."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(
        2, 1, figsize=(7, 5.5), sharex=True, height_ratios=(2, 1), layout="constrained"
    )
    for name, (factory, options, line) in RULES.items():
        points = trajectory(factory, options)
        above.plot(points, label=name, **line)
        below.plot(np.arange(1, STEPS + 1), np.abs(np.diff(points)), **line)
    for axes in (above, below):
        axes.axvline(DROP, color="0.6", lw=1, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
    above.axhline(0, color="0.85", lw=1, zorder=0)
    above.annotate(
        "lr drops from 0.02 to 0.002", (DROP, 0.92), (6, 0), textcoords="offset points", color="0.4"
    )
    above.set(ylabel="parameter x", title="Momentum 0.9 on x²/2: the rate inside the buffer")
    above.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 0.88))
    below.set(xlabel="steps", ylabel="length of the step", ylim=0)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
