"""The first part of the page: where torchwise is faster, where it is not, and why."""

import statistics
import textwrap
from collections.abc import Iterator

import findings
from bars import Bar
from findings import EVEN, FUNCTIONAL, LARGE, MATRICES, SMALL, TRAINING, WORK, Cell, Rows

_MANY_ARRAYS = 100
_FUSED = "torch fused"
_ONE_OUTPUT = (
    "On CPU, XLA gives a kernel one output, so parameters and states take two passes over memory. "
    "A step that is a whole program makes both passes strip by strip where a model has more than "
    "eight large parameters (see [Design](design.md#strips-on-cpu)). `update` cannot, since optax "
    "adds its result to the parameters later. "
    "A fused kernel of torch writes all results in one pass."
)
_PRODUCTS = (
    "XLA and torch leave them to different libraries, which set the time of Muon. torch and "
    "torchwise multiply in bfloat16, optax in float32."
)
_TRAINING = (
    "forward and backward take most of the time. Where optax is level with torchwise and torch "
    "is not, it is the model's code that differs."
)


def sentences(rows: Rows, bars: list[Bar]) -> str:
    """Return two or three sentences: how many cells are won, the extremes, and the bars."""
    cells = findings.ratios(rows, findings.theirs(rows))
    if not cells:
        return "There is no peer to compare with."
    faster, level, slower = counts(cells)
    least, most = min(cells), max(cells)
    parts = [
        f"In {len(cells)} comparisons, the pure `step` of torchwise is faster than the peer in "
        f"{faster}, level within {EVEN:.0%} in {level}, and slower in {slower}.",
        f"The least ratio is {least.value:.2f} ({least.where}), the largest {most.value:.2f} "
        f"({most.where}).",
    ]
    if bars:
        reached = sum(len(bar.reached()) == len(bar.found) for bar in bars)
        parts.append(f"It reaches {reached} of the {len(bars)} bars that the project sets itself.")
    return _wrapped(" ".join(parts))


def counts(cells: list[Cell]) -> tuple[int, int, int]:
    """Return in how many cells torchwise is faster, level, and slower."""
    faster = sum(cell.value > 1 + EVEN for cell in cells)
    slower = sum(cell.value < 1 / (1 + EVEN) for cell in cells)
    return faster, len(cells) - faster - slower, slower


def table(rows: Rows) -> Iterator[str]:
    """Yield a table: for every peer and every kind of work the counts and the range."""
    works = [work for work in WORK if findings.of_work(rows, work)]
    yield f"| peer | {' | '.join(works)} |"
    yield f"| --- |{' --- |' * len(works)}"
    for peer in findings.theirs(rows):
        found = [findings.ratios(findings.of_work(rows, work), (peer,)) for work in works]
        yield f"| {peer} | {' | '.join(map(_counted, found))} |"


def _counted(cells: list[Cell]) -> str:
    if not cells:
        return ""
    return (
        f"{' / '.join(map(str, counts(cells)))}: {min(cells).value:.2f} to {max(cells).value:.2f}"
    )


def bar_table(bars: list[Bar]) -> Iterator[str]:
    """Yield a table: a line for each bar, with the cell that is worst."""
    yield "| bar | asked | cells that reach it | result | worst cell |"
    yield "| --- | --- | --- | --- | --- |"
    for bar in bars:
        sign, worst, count = "≥" if bar.is_least else "≤", bar.worst(), len(bar.reached())
        answer = "reached" if count == len(bar.found) else "**not reached**"
        yield (
            f"| {bar.what} | {sign} {bar.needed:.2f} | {count} of {len(bar.found)} | {answer} | "
            f"{worst.value:.2f} ({worst.where}) |"
        )


def reasons(rows: Rows, backend: str) -> Iterator[str]:
    """Yield what limits the times of each kind of work that was measured."""
    if large := findings.of_work(rows, LARGE):
        text = "- Large models: an update does a few operations for every number that it reads, so "
        text += "memory sets its time. As a multiple of what memory needs for the bytes that must "
        text += f"move, torchwise takes {_spread(large, FUNCTIONAL)}"
        text += f"; torch fused {_spread(large, _FUSED)}." if _has(large, _FUSED) else "."
        yield _wrapped(f"{text} {_ONE_OUTPUT}" if backend == "cpu" else text)
    many = [row for row in findings.of_work(rows, SMALL) if row["arrays"] >= _MANY_ARRAYS]
    if many:
        text = "- Small arrays: a step of many is the runtime's work, for every array that goes in "
        text += "and comes out, whoever updates it. An array takes "
        text += f"{_per_array(many, FUNCTIONAL)} microseconds in torchwise"
        if _has(many, _FUSED):
            text += f", and {_per_array(many, _FUSED)} in torch fused"
        yield _wrapped(f"{text}.")
    for work, text in ((MATRICES, _PRODUCTS), (TRAINING, _TRAINING)):
        if findings.of_work(rows, work):
            yield _wrapped(f"- {work.capitalize()}: {text}")


def _wrapped(text: str) -> str:
    indent = "  " if text.startswith("- ") else ""
    return textwrap.fill(text, 100, subsequent_indent=indent, break_on_hyphens=False)


def _has(rows: Rows, peer: str) -> bool:
    return any(peer in row["peers"] for row in rows)


def _spread(rows: Rows, peer: str) -> str:
    shares = [time / row["limit_milliseconds"] for row, time in findings.medians(rows, peer)]
    return f"{min(shares):.2f} to {max(shares):.2f} (median {statistics.median(shares):.2f})"


def _per_array(rows: Rows, peer: str) -> str:
    times = [1e3 * time / row["arrays"] for row, time in findings.medians(rows, peer)]
    return f"{min(times):.1f} to {max(times):.1f}"
