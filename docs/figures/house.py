"""Draw the packages, who imports whom, and the way of a gradient through a chain.

Run it from anywhere: the figure is written beside this file.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl

BLUE, RED, GREY = "#0b6e99", "#c8442b", "0.45"
# Name, what it holds, left edge, floor, width; a box may import those on the floors below it.
ROOMS = [
    ("cli", "look into files, convert", 0.0, 3, 2.2),
    ("demo", "the main job, on real data", 2.4, 3, 3.4),
    ("optim", "torch's face: holds and calls", 6.0, 3, 4.0),
    ("checkpoint", ".pt and .safetensors; knows no optimizer", 0.0, 0, 4.4),
    ("state_dict", "torch's layout, from and to any chain", 4.6, 2, 5.4),
    ("optimizers", "recipes: validation, then a chain", 4.6, 1, 5.4),
    ("transforms", "the mathematics of one array; chain maps it over trees", 4.6, 0, 5.4),
]
WAY = [
    ("grad", GREY),
    ("add_decayed_\nweights", BLUE),
    ("trace", BLUE),
    ("scale_by_\nlearning_rate", BLUE),
    ("update", GREY),
    ("apply_updates", GREY),
]
STATEFUL = {"trace": "momentum_buffer, step"}


def draw_house(axes: Any) -> None:
    """The floors, from the mathematics up to what people call."""
    for name, text, left, floor, width in ROOMS:
        axes.add_patch(
            mpl.patches.FancyBboxPatch(
                (left, floor), width, 0.78, boxstyle="round,pad=0,rounding_size=0.06", fc="white",
                ec=BLUE if name == "transforms" else GREY, lw=1.6,
            )
        )  # fmt: skip
        axes.text(left + 0.12, floor + 0.5, name, weight="bold", va="center", fontsize=10)
        axes.text(left + 0.12, floor + 0.22, text, va="center", fontsize=8, color="0.3")
    axes.annotate("imports", (-0.35, 0.1), (-0.35, 3.7), ha="center", color=GREY, fontsize=8,
                  arrowprops={"arrowstyle": "->", "color": GREY})  # fmt: skip
    axes.set(xlim=(-0.8, 10.1), ylim=(-0.1, 3.9))
    axes.axis("off")


def draw_way(axes: Any) -> None:
    """A gradient passes from left to right; state stays behind."""
    for position, (name, color) in enumerate(WAY):
        center = 0.8 + 1.7 * position
        frame = {"boxstyle": "round,pad=0.45", "fc": "white", "ec": color, "lw": 1.4}
        axes.text(center, 1, name, ha="center", va="center", fontsize=8, bbox=frame)
        if position:
            axes.annotate("", (center - 0.62, 1), (center - 1.08, 1),
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
        2, 1, figsize=(9, 5.6), height_ratios=(3, 1.2), layout="constrained"
    )
    draw_house(house)
    draw_way(way)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
