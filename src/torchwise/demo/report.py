"""The table on stdout."""

import statistics
from collections.abc import Mapping, Sequence

from torchwise.demo.experiment import STATEFUL, TORCH, TORCHWISE, Outcome
from torchwise.demo.training import History, differences

_WARM_UP_EPOCHS = 1  # it compiles


def text(outcomes: Mapping[str, Outcome]) -> str:
    """Return the table and what it means."""
    header = ["optimizer", "library", "test accuracy", "ms per step"]
    notes = ["ms per step: whole training step, median of all epochs but the first"]
    if any(TORCH in outcome.histories for outcome in outcomes.values()):
        header += ["speed ratio", "last diff.", "max diff."]
        notes += [
            "speed ratio: torch's time over this one's; both on the CPU, torch on one thread",
            "diff.: largest absolute difference of any parameter from torch's, after an epoch",
        ]
    rows = [
        _row(name, library, outcome.histories)
        for name, outcome in outcomes.items()
        for library in outcome.histories
    ]
    verdicts = [
        f"{name}: torchwise.optim reaches the parameters of torchwise"
        + (" to the bit" if distance == 0 else f" within {distance:.1e}")
        for name, outcome in outcomes.items()
        if STATEFUL in outcome.histories
        for distance in [max(differences(*_both_faces(outcome)))]
    ]
    verdicts += [
        _verdict(name, outcome.histories[TORCH], outcome.transplanted)
        for name, outcome in outcomes.items()
        if outcome.transplanted is not None
    ]
    return "\n".join([*_aligned([header, *rows]), "", *notes, *verdicts])


def _both_faces(outcome: Outcome) -> tuple[History, History]:
    return outcome.histories[STATEFUL], outcome.histories[TORCHWISE]


def _row(name: str, library: str, histories: Mapping[str, History]) -> list[str]:
    history = histories[library]
    row = [name, library, f"{history.accuracy:.1%}", f"{_milliseconds(history):.3f}"]
    if TORCH not in histories:
        return row
    torch = histories[TORCH]
    row.append(f"{_milliseconds(torch) / _milliseconds(history):.2f}")
    if library == TORCH:
        return [*row, "-", "-"]
    distances = differences(history, torch)
    return [*row, f"{distances[-1]:.1e}", f"{max(distances):.1e}"]


def _milliseconds(history: History) -> float:
    return 1e3 * statistics.median(history.seconds[_WARM_UP_EPOCHS:] or history.seconds)


def _verdict(name: str, torch: History, transplanted: History) -> str:
    """Say how much of the difference is the optimizer's, and not the gradients'.

    Adagrad's share is torch's square root, which is not correctly rounded on every CPU.
    """
    distance = max(differences(transplanted, torch))
    if distance > 0:
        return f"{name}: fed with torch's gradients, torchwise stays within {distance:.1e} of torch"
    return (
        f"{name}: fed with torch's gradients, torchwise equals torch to the bit; "
        "the gradients' rounding differs"
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines whose first two columns are flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if position < 2 else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
