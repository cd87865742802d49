"""The figures: points for workloads, lines for growth."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from measuring import Row

# told apart by colour-blind readers as well
COLORS = {
    "torchwise": "#0072b2",
    "torchwise update": "#999999",
    "torchwise.optim": "#56b4e9",
    "optax": "#009e73",
    "torch": "#d55e00",
    "torch foreach": "#e69f00",
    "torch fused": "#cc79a7",
}
_DPI = 130
_TIME, _COMPILATION = "ms per step", "seconds to compile"
_LABELS = {
    "arrays": "arrays of 16 x 16",
    "groups": "groups of the same arrays",
    "elements": "elements of one array",
}
_UPRIGHT = 7  # more names do not fit next to each other


def draw_steps(rows: Sequence[Row], path: Path) -> None:
    """Draw a panel for each workload: one group of points per optimizer, one point per peer."""
    workloads = list(dict.fromkeys(row["workload"] for row in rows))
    most = max(sum(row["workload"] == workload for row in rows) for workload in workloads)
    height = 2.6 if most <= _UPRIGHT else 3.2  # of a panel with its names
    figure = Figure(figsize=(6.5, height * len(workloads)), dpi=_DPI, layout="constrained")
    panels = figure.subplots(len(workloads), 1, squeeze=False)[:, 0]
    for axes, workload in zip(panels, workloads, strict=True):
        _draw_workload(axes, [row for row in rows if row["workload"] == workload])
        axes.set_title(workload)
    handles, labels = panels[0].get_legend_handles_labels()
    known = dict(zip(labels, handles))  # one of each label
    figure.legend(known.values(), known, frameon=False, ncols=3, loc="outside upper center")
    figure.savefig(path, format="png")


def _draw_workload(axes: Axes, rows: Sequence[Row]) -> None:
    width = 0.8 / len(COLORS)
    for group, row in enumerate(rows):
        for position, (name, color) in enumerate(COLORS.items()):
            found = row["peers"].get(name)
            if found is not None:
                place = group + (position - len(COLORS) / 2 + 0.5) * width
                times = found["milliseconds"]
                axes.vlines(place, times["lower"], times["upper"], color=color)
                axes.plot(place, times["median"], "o", markersize=4, color=color, label=name)
        if row["limit_milliseconds"] is not None:
            height, ends = row["limit_milliseconds"], (group - 0.45, group + 0.45)
            axes.hlines(height, *ends, "black", linestyle=":", label="limit of memory")
    if len(rows) > _UPRIGHT:
        names = [row["optimizer"].replace(" ", "\n", 1) for row in rows]
        axes.set_xticks(range(len(rows)), names, fontsize=8, rotation=90)
    else:
        names = [row["optimizer"].replace(" ", "\n") for row in rows]  # read on a phone, too
        axes.set_xticks(range(len(rows)), names, fontsize=8)
    axes.set_ylabel("ms per step")
    axes.set_yscale("log")
    _finish(axes)


def draw_growth(rows: Sequence[Row], path: Path) -> None:
    """Draw time per step by arrays, groups and elements, and time to compile by arrays."""
    wanted = [(axis, _TIME) for axis in _LABELS] + [("arrays", _COMPILATION)]
    found = {row["axis"] for row in rows}
    wanted = [(axis, quantity) for axis, quantity in wanted if axis in found]
    figure = Figure(figsize=(6.5, 3.2 * len(wanted)), dpi=_DPI, layout="constrained")
    panels = figure.subplots(len(wanted), 1, squeeze=False)[:, 0]
    for axes, (axis, quantity) in zip(panels, wanted, strict=True):
        _draw_lines(axes, [row for row in rows if row["axis"] == axis], axis, quantity)
    panels[0].legend(frameon=False, fontsize="small")
    figure.savefig(path, format="png")


def _draw_lines(axes: Axes, rows: Sequence[Row], axis: str, quantity: str) -> None:
    for name, color in COLORS.items():
        points = [(row[axis], row["peers"][name]) for row in rows if name in row["peers"]]
        values = [
            found["milliseconds"]["median"] if quantity == _TIME else found["compile_seconds"]
            for _, found in points
        ]
        if values and None not in values:
            places = [place for place, _ in points]
            axes.plot(places, values, marker="o", markersize=4, color=color, label=name)
    axes.set_xlabel(_LABELS[axis])
    axes.set_ylabel(quantity)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
