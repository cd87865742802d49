"""The table on stdout."""

import statistics
from collections.abc import Sequence

from torchwise.demo.experiment import TORCH, TRANSPLANTED, Outcomes
from torchwise.demo.training import History, differences

_WARM_UP_STEPS = 10  # the first one compiles


def text(outcomes: Outcomes) -> str:
    """Return the table and what it means."""
    compared = any(TORCH in histories for histories in outcomes.values())
    header = ["optimizer", "library", "test accuracy", "ms per step"]
    lines = []
    if compared:
        header += ["speed ratio", "last diff.", "max diff."]
        lines += [
            "speed ratio: torch's time per step over this one's; both on the CPU, torch on one thread",
            "diff.: largest absolute difference of any parameter from torch's, after an epoch",
            *(_verdict(name, histories) for name, histories in outcomes.items()),
        ]
    rows = [
        _row(name, library, histories)
        for name, histories in outcomes.items()
        for library in histories
        if library != TRANSPLANTED
    ]
    timing = (
        f"ms per step: forward, backward, optimizer; median after {_WARM_UP_STEPS} steps of warm-up"
    )
    return "\n".join([*_aligned([header, *rows]), "", timing, *lines])


def milliseconds(history: History) -> float:
    """Return the median duration of a step after the warm-up."""
    return 1e3 * statistics.median(history.seconds[_WARM_UP_STEPS:])


def _row(name: str, library: str, histories: dict[str, History]) -> list[str]:
    history = histories[library]
    row = [name, library, f"{history.accuracy:.1%}", f"{milliseconds(history):.3f}"]
    if TORCH not in histories:
        return row
    row.append(f"{milliseconds(histories[TORCH]) / milliseconds(history):.2f}")
    if library == TORCH:
        return [*row, "-", "-"]
    distances = differences(history, histories[TORCH])
    return [*row, f"{distances[-1]:.1e}", f"{max(distances):.1e}"]


def _verdict(name: str, histories: dict[str, History]) -> str:
    """Say what is left of the difference when both optimizers get the same gradients."""
    distance = max(differences(histories[TRANSPLANTED], histories[TORCH]))
    if distance == 0:
        return (
            f"{name}: fed with torch's gradients, torchwise equals torch to the bit; "
            "the difference is the gradients' rounding"
        )
    return f"{name}: fed with torch's gradients, torchwise stays within {distance:.1e} of torch"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines whose two first columns are flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if position < 2 else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
