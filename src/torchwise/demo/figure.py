"""The figure: loss curves, and how far the parameters are from torch's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from torchwise.demo.experiment import STATEFUL, TORCH, Outcome
from torchwise.demo.training import differences

_COLORS = {"sgd": "#0072b2", "adagrad": "#d55e00"}  # told apart by colour-blind readers as well
_STYLE = {"linewidth": 2, "marker": "o", "markersize": 4}
_STATEFUL_STYLE = {"linewidth": 1.5, "linestyle": "--", "color": "#f0e442", "zorder": 3}
_TORCH_STYLE = {"linewidth": 2, "linestyle": ":", "color": "black", "zorder": 3}
_DPI = 150


def draw(outcomes: Mapping[str, Outcome], path: Path) -> None:
    """Write a PNG with one panel, or with two if torch was trained as well."""
    compared = any(TORCH in outcome.histories for outcome in outcomes.values())
    panels = 2 if compared else 1
    figure = Figure(figsize=(5.6 * panels, 4.0), dpi=_DPI, layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _draw_losses(axes[0], outcomes)
    if compared:
        _draw_differences(axes[1], outcomes)
    figure.savefig(path, format="png")


def _draw_losses(axes: Axes, outcomes: Mapping[str, Outcome]) -> None:
    for name, outcome in outcomes.items():
        for library, history in outcome.histories.items():
            _draw_by_epoch(axes, history.losses, f"{library} {name}", _style(name, library))
    axes.set_ylabel("mean cross entropy of the epoch (nats)")
    _finish(axes, "Training loss on the digits")


def _draw_differences(axes: Axes, outcomes: Mapping[str, Outcome]) -> None:
    for name, outcome in outcomes.items():
        for library, history in outcome.histories.items():
            if library != TORCH:
                distances = differences(history, outcome.histories[TORCH])
                _draw_by_epoch(axes, distances, f"{library} {name}", _style(name, library))
    axes.set_ylabel("largest absolute difference of a parameter")
    _finish(axes, "Difference from torch after each epoch")


def _style(name: str, library: str) -> dict[str, Any]:
    """Curves of one optimizer may coincide: each library's line leaves the one below visible."""
    by_library = {TORCH: _TORCH_STYLE, STATEFUL: _STATEFUL_STYLE}
    return by_library.get(library, {**_STYLE, "color": _COLORS[name]})


def _draw_by_epoch(axes: Axes, values: Sequence[float], label: str, style: dict[str, Any]) -> None:
    axes.plot(range(1, len(values) + 1), values, label=label, **style)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
