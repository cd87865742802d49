"""The figure: loss curves, and how far the parameters are from torch's."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from torchwise.demo.experiment import TORCH, TRANSPLANTED, Outcomes
from torchwise.demo.training import differences

_COLORS = {"sgd": "#0072b2", "adagrad": "#d55e00"}  # told apart by colour-blind readers as well
_DPI = 150


def draw(outcomes: Outcomes, path: Path) -> None:
    """Write a PNG with one panel, or with two if torch was trained as well."""
    compared = any(TORCH in histories for histories in outcomes.values())
    panels = 2 if compared else 1
    figure = Figure(figsize=(5.6 * panels, 4.0), dpi=_DPI, layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _draw_losses(axes[0], outcomes)
    if compared:
        _draw_differences(axes[1], outcomes)
    figure.savefig(path, format="png")


def _draw_losses(axes: Axes, outcomes: Outcomes) -> None:
    for name, histories in outcomes.items():
        for library, history in histories.items():
            if library == TRANSPLANTED:
                continue
            epochs = range(1, len(history.losses) + 1)
            style = (
                {"color": "black", "linestyle": (0, (1, 2)), "linewidth": 1.5, "zorder": 3}
                if library == TORCH
                else {"color": _COLORS[name], "linewidth": 2.5, "marker": "."}
            )
            axes.plot(epochs, history.losses, label=f"{library} {name}", **style)
    axes.set_ylabel("mean cross entropy of the epoch (nats)")
    _finish(axes, "Training loss on the digits")


def _draw_differences(axes: Axes, outcomes: Outcomes) -> None:
    for name, histories in outcomes.items():
        for library, history in histories.items():
            if library in (TORCH, TRANSPLANTED):
                continue
            distances = differences(history, histories[TORCH])
            epochs = range(1, len(distances) + 1)
            axes.plot(epochs, distances, label=f"{library} {name}", color=_COLORS[name], marker=".")
    axes.set_ylabel("largest absolute difference of a parameter")
    _finish(axes, "Difference from torch after each epoch")


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
