"""Tables of the page: at a glance, compilation and memory, and one for each optimizer."""

from collections.abc import Iterator, Sequence
from typing import Any

import findings
from findings import FUNCTIONAL, OURS, TRAINING, Row, Rows

_MARK = " \\*"


def glance(rows: Rows) -> Iterator[str]:
    """Yield a line for each workload and each of our interfaces: the range of each peer."""
    names = findings.theirs(rows)
    yield f"| workload | torchwise | {' | '.join(names)} |"
    yield f"| --- | --- |{' --- |' * len(names)}"
    for workload in dict.fromkeys(row["workload"] for row in rows):
        chosen = [row for row in rows if row["workload"] == workload]
        for ours, way in OURS.items():
            if any(ours in row["ratios"] for row in chosen):
                cells = [_range(chosen, ours, name) for name in names]
                yield f"| {workload} | {way} | {' | '.join(cells)} |"


def _range(rows: Rows, ours: str, name: str) -> str:
    ratios = {
        row["optimizer"]: row["ratios"][ours][name]
        for row in rows
        if name in row["ratios"].get(ours, {})
    }
    if not ratios:
        return ""
    least = min(ratios, key=ratios.__getitem__)
    return f"{ratios[least]:.2f} ({least}) to {max(ratios.values()):.2f}"


def compilation(rows: Rows) -> Iterator[str]:
    """Yield a line for each workload without a model: the most of all optimizers."""
    yield "| workload | seconds to compile | times optax's | temporaries | optax's |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    steps = [row for row in rows if findings.work(row) != TRAINING]
    for workload in dict.fromkeys(row["workload"] for row in steps):
        chosen = [row for row in steps if row["workload"] == workload]
        seconds = max(row["peers"][FUNCTIONAL]["compile_seconds"] for row in chosen)
        times = [cell.value for cell in findings.compilations(chosen)]
        ratio = f"{max(times):.2f}" if times else ""
        shares = [_largest(chosen, name) for name in (FUNCTIONAL, "optax")]
        yield f"| {workload} | {seconds:.2f} | {ratio} | {' | '.join(shares)} |"


def _largest(rows: Rows, name: str) -> str:
    shares = [
        row["peers"][name]["temporary_bytes"] / (4 * row["elements"])
        for row in rows
        if name in row["peers"]
    ]
    return f"{100 * max(shares):.2f} %" if shares else ""


def times(rows: Rows) -> Iterator[str]:
    """Yield a line for each row: milliseconds, and the limit."""
    names = findings.names(rows)
    yield f"| ms | {' | '.join(names)} | limit |"
    yield f"| --- |{' ---: |' * (len(names) + 1)}"
    for row in rows:
        cells = [cell(row, name) for name in names]
        limit = row["limit_milliseconds"]
        cells.append("" if limit is None else _short(limit))
        yield f"| {row['workload']}{_taken(row)}{mark(row)} | {' | '.join(cells)} |"
    yield ""
    yield from footnote(rows)


def _taken(row: Row) -> str:
    return f" ({row['arrays']} matrices alone)" if "arrays_left_out" in row else ""


def mark(row: Row) -> str:
    """Return a mark for a row that was measured while memory had another speed."""
    return "" if row.get("steady", True) else _MARK


def footnote(rows: Rows) -> Iterator[str]:
    """Yield what the mark means, if it stands somewhere."""
    marked = [row for row in rows if mark(row)]
    if marked:
        yield "\\* Memory was more than 15 % faster or slower than in the rows before, whenever"
        yield "this was measured. Ratios hold all the same; times do not compare with other rows.\n"


def cell(row: dict[str, Any], name: str, base: str = FUNCTIONAL) -> str:
    """Return the median, and how many times as long as ours."""
    if name not in row["peers"]:
        return ""
    time = _short(row["peers"][name]["milliseconds"]["median"])
    ratio = row["ratios"].get(base, {}).get(name)
    return time if ratio is None else f"{time} ({ratio:.2f} x)"


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.3g}" if milliseconds < 100 else f"{milliseconds:.0f}"


def loads(runs: Sequence[dict[str, Any]]) -> str:
    """Return how busy the machine was as each run began."""
    return ", ".join(f"{run['load']:.1f}" for run in runs)
