"""The bars that the project sets itself, and whether results reach them."""

from collections.abc import Sequence
from typing import NamedTuple

import findings
from cells import SGD_FAMILY
from findings import LARGE, MATRICES, SMALL, STATEFUL, Cell, Rows

_ADAPTIVE = ("adagrad", "adagrad decay", "adam", "adamw", "adamw amsgrad")
_FLAX_MOST = 1.02


class Bar(NamedTuple):
    """What is asked of every cell.

    Attributes:
        what: is measured, in words.
        needed: the least or the most that every value may be.
        is_least: whether it is the least.
        found: the values; where there are none, nothing is known.
    """

    what: str
    needed: float
    is_least: bool
    found: Sequence[Cell]

    def reached(self) -> list[Cell]:
        """Return the cells that are good enough, to two digits after the point."""
        return [cell for cell in self.found if self._holds(round(cell.value, 2))]

    def worst(self) -> Cell:
        """Return the cell that is nearest to the bar, or farthest behind it."""
        pick = min if self.is_least else max
        return pick(self.found, key=lambda cell: cell.value)

    def _holds(self, value: float) -> bool:
        return value >= self.needed if self.is_least else value <= self.needed


def bars(rows: Rows, flax_rows: Rows = ()) -> list[Bar]:
    """Return all bars for which something was measured.

    Args:
        rows: of `step.py`.
        flax_rows: of `flax_step.py`.
    """
    large = findings.of_work(rows, LARGE)
    alone = findings.of_work(rows, LARGE, SMALL, MATRICES)
    four_hundred = [row for row in rows if row["workload"] == "400 of 16 x 16"]
    fused = ("torch fused",)
    sgd = findings.ratios(findings.of_optimizers(large, SGD_FAMILY), fused)
    adaptive = findings.ratios(findings.of_optimizers(large, _ADAPTIVE), fused)
    one_by_one, foreach = (findings.ratios(large, (peer,)) for peer in ("torch", "torch foreach"))
    stateful = findings.ratios(four_hundred, ("torch",), STATEFUL)
    flax = [
        Cell(1 / row["ratios"][ours]["optax"], f"{row['workload']}, {name}")
        for row in flax_rows
        for ours, name in (("torchwise", "`step`"), ("torchwise update", "`update`"))
    ]
    found = [
        Bar("torch fused / torchwise: SGD, large models", 1.0, True, sgd),
        Bar("torch fused / torchwise: Adagrad, Adam, AdamW, large models", 0.9, True, adaptive),
        Bar("torch / torchwise: large models", 1.0, True, one_by_one),
        Bar("torch foreach / torchwise: large models", 1.0, True, foreach),
        Bar("optax / torchwise: everywhere", 1.0, True, findings.ratios(rows, ("optax",))),
        Bar("torch / torchwise.optim: 400 small arrays", 1.0, True, stateful),
        Bar("temporaries of a step in MB", 2.0, False, findings.temporaries(alone)),
        Bar("seconds to compile / those of optax", 1.2, False, findings.compilations(alone)),
        Bar("torchwise / optax: AdamW in a Flax step", _FLAX_MOST, False, flax),
    ]
    return [bar for bar in found if bar.found]
