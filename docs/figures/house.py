"""Draw the packages, who imports whom, and the way of a gradient through a chain.

Run it from anywhere: the figure is written next to this file.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl

BLUE, RED, GREY = "#0b6e99", "#c8442b", "0.45"
# Name, what it holds, left edge, floor, width; a box may import those on the floors below it.
ROOMS = [
    ("nn", "torch.nn.utils: clipping", 0.0, 5, 3.2),
    ("dragon", "Dragon's SGD", 3.4, 5, 3.2),
    ("demo", "the main job, on real data", 6.8, 5, 3.2),
    ("cli, inspection, comparison", "look into files, compare them", 0.0, 4, 2.9),
    ("layouts", "layers of Flax, Equinox", 3.1, 4, 2.0),
    ("optax_states", "optax's states", 5.3, 4, 1.6),
    ("optim", "torch's objects: hold and call", 7.1, 4, 2.9),
    ("state_dict", "torch's layout, from and to any chain", 0.0, 3, 10.0),
    ("quasi_newton", "LBFGS and its line search", 0.0, 2, 4.4),
    ("rules", "what moves a parameter: torch's optimizers", 4.6, 2, 5.4),
    ("schedules", "hyperparameters over time", 0.0, 1, 2.5),
    ("averages", "EMA, SWA", 2.7, 1, 1.7),
    ("groups", "parameters, by name", 4.6, 1, 2.2),
    ("blocks", "what changes a gradient", 7.0, 1, 3.0),
    ("checkpoint", ".pt, .safetensors; no optimizer", 0.0, 0, 3.8),
    ("fields, rounding, rule, leaf, apply", "the core; chain maps it over trees", 4.0, 0, 6.0),
]
WAY = [
    ("grad", GREY),
    ("AddDecayed-\nWeights", BLUE),
    ("Trace", BLUE),
    ("ScaleBy-\nLearningRate", RED),
    ("new param", GREY),
]
STATEFUL = {"Trace": "momentum_buffer"}


def draw_house(axes: Any) -> None:
    """The floors, from the mathematics up to what people call."""
    for name, text, left, floor, width in ROOMS:
        axes.add_patch(
            mpl.patches.FancyBboxPatch(
                (left, floor), width, 0.78, boxstyle="round,pad=0,rounding_size=0.06", fc="white",
                ec={"blocks": BLUE, "rules": RED}.get(name, GREY), lw=1.6,
            )
        )  # fmt: skip
        axes.text(left + 0.12, floor + 0.5, name, weight="bold", va="center", fontsize=10)
        axes.text(left + 0.12, floor + 0.22, text, va="center", fontsize=8, color="0.3")
    axes.annotate("imports", (-0.35, 0.1), (-0.35, 5.7), ha="center", color=GREY, fontsize=8,
                  arrowprops={"arrowstyle": "->", "color": GREY})  # fmt: skip
    axes.set(xlim=(-0.8, 10.1), ylim=(-0.1, 5.9))
    axes.axis("off")


def draw_way(axes: Any) -> None:
    """A gradient passes the parts of `sgd` from left to right; state stays behind."""
    for position, (name, color) in enumerate(WAY):
        center = 0.8 + 2.1 * position
        frame = {"boxstyle": "round,pad=0.45", "fc": "white", "ec": color, "lw": 1.4}
        axes.text(center, 1, name, ha="center", va="center", fontsize=8, bbox=frame)
        if position:
            axes.annotate("", (center - 0.75, 1), (center - 1.35, 1),
                          arrowprops={"arrowstyle": "->", "color": GREY})  # fmt: skip
        if name in STATEFUL:
            axes.annotate(STATEFUL[name], (center, 0.72), (center, 0.1), ha="center", fontsize=8,
                          color=RED, arrowprops={"arrowstyle": "<->", "color": RED})  # fmt: skip
    axes.set(xlim=(-0.1, 10.1), ylim=(-0.1, 1.5))
    axes.axis("off")


def main() -> None:
    """Write the figure."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (house, way) = plt.subplots(
        2, 1, figsize=(9, 7), height_ratios=(4.4, 1.2), layout="constrained"
    )
    draw_house(house)
    draw_way(way)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
