"""What rows of results say: cells with a ratio, and which kind of work a row is."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

Row = dict[str, Any]
Rows = Sequence[Row]

FUNCTIONAL, UPDATE, STATEFUL = "torchwise", "torchwise update", "torchwise.optim"
OURS = {FUNCTIONAL: "functional", UPDATE: "functional, update", STATEFUL: "stateful"}
EVEN = 0.02  # two medians that are closer are level
LARGE, SMALL = "large models", "small arrays"
MATRICES, TRAINING = "products of matrices", "training steps"
WORK = (LARGE, SMALL, MATRICES, TRAINING)
_LARGE_ELEMENTS = 25_000_000


class Cell(NamedTuple):
    """A number with the place where it was found."""

    value: float
    where: str


def work(row: Row) -> str:
    """Return which kind of work a row is: one of `WORK`."""
    if row["workload"].startswith("train"):
        return TRAINING
    if row["limit_milliseconds"] is None:
        return MATRICES
    return LARGE if row["elements"] >= _LARGE_ELEMENTS else SMALL


def of_work(rows: Rows, *works: str) -> list[Row]:
    """Return the rows that are such work."""
    return [row for row in rows if work(row) in works]


def of_optimizers(rows: Rows, names: Collection[str]) -> list[Row]:
    """Return the rows of such optimizers."""
    return [row for row in rows if row["optimizer"] in names]


def ratios(rows: Rows, peers: Collection[str], ours: str = FUNCTIONAL) -> list[Cell]:
    """Return how many times as long as ours the peers take, cell by cell."""
    return [
        Cell(row["ratios"][ours][peer], f"{_place(row)}, {peer}")
        for row in rows
        for peer in peers
        if peer in row["ratios"].get(ours, {})
    ]


def compilations(rows: Rows, ours: str = FUNCTIONAL) -> list[Cell]:
    """Return how many times as long as optax's step ours takes to compile."""
    return [
        Cell(
            row["peers"][ours]["compile_seconds"] / row["peers"]["optax"]["compile_seconds"],
            _place(row),
        )
        for row in rows
        if "optax" in row["peers"] and ours in row["peers"]
    ]


def temporaries(rows: Rows, ours: str = FUNCTIONAL) -> list[Cell]:
    """Return the megabytes that XLA allocates in addition to arguments and results."""
    return [
        Cell(row["peers"][ours]["temporary_bytes"] / 1e6, _place(row))
        for row in rows
        if row["peers"].get(ours, {}).get("temporary_bytes") is not None
    ]


def medians(rows: Rows, peer: str) -> Iterator[tuple[Row, float]]:
    """Yield the rows that have a peer, with its milliseconds."""
    for row in rows:
        if peer in row["peers"]:
            yield row, row["peers"][peer]["milliseconds"]["median"]


def names(rows: Rows) -> list[str]:
    """Return the names of all peers, ours among them."""
    return list(dict.fromkeys(name for row in rows for name in row["peers"]))


def theirs(rows: Rows) -> list[str]:
    """Return the names of the peers that are not ours."""
    return [name for name in names(rows) if name not in OURS]


def _place(row: Row) -> str:
    return f"{row['optimizer']}, {row['workload']}"
