"""The part of the page on growth: with arrays, with groups, with elements."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import findings
import tables
from findings import FUNCTIONAL, STATEFUL, Rows

_FITTED = 3  # the largest points
_NEAR = 0.1  # an exponent that is so close to 1 is called linear, and to 0 none
_TITLES = {
    "arrays": "With the number of arrays of 16 x 16",
    "groups": "With the number of groups, of the same arrays of 16 x 16, each with its own rate",
    "elements": "With the elements of one array",
}


def section(result: dict[str, Any], picture: str) -> Iterator[str]:
    """Yield the lines of the section."""
    rows = result["rows"]
    yield f"## Growth: {rows[0]['optimizer']}\n"
    yield f"![Time of a step and of compilation by arrays and elements]({picture})\n"
    for axis, title in _TITLES.items():
        chosen = [row for row in rows if row["axis"] == axis]
        if chosen:
            yield f"### {title}\n"
            yield from _table(chosen, axis)
            yield ""
            yield from _notes(chosen, axis)
            yield from tables.footnote(chosen)
    for point in result.get("left_out", []):
        labels = point["labels"]
        yield f"{labels['axis'].capitalize()}, {labels[labels['axis']]:,}: not measured; "
        yield f"{point['reason']}.\n"


def _table(rows: Rows, axis: str) -> Iterator[str]:
    names = findings.names(rows)
    base = STATEFUL if axis == "groups" else FUNCTIONAL
    compiled = [name for name in (FUNCTIONAL, STATEFUL, "optax") if name in names]
    heads = [f"{name} compile s" for name in compiled]
    yield f"| {axis} | {' | '.join([*names, *heads])} |"
    yield f"| ---: |{' ---: |' * (len(names) + len(heads))}"
    for row in rows:
        cells = [tables.cell(row, name, base) for name in names]
        cells += [_seconds(row, name) for name in compiled]
        yield f"| {row[axis]:,}{tables.mark(row)} | {' | '.join(cells)} |"


def _seconds(row: dict[str, Any], name: str) -> str:
    found = row["peers"].get(name)
    return "" if found is None else f"{found['compile_seconds']:.2f}"


def _notes(rows: Rows, axis: str) -> Iterator[str]:
    base = STATEFUL if axis == "groups" else FUNCTIONAL
    rows = [row for row in rows if base in row["peers"]]
    sizes = [row[axis] for row in rows]
    if len(sizes) < 2:
        return
    first = sizes[-_FITTED:][0]
    times = [row["peers"][base]["milliseconds"]["median"] for row in rows]
    seconds = [row["peers"][base]["compile_seconds"] for row in rows]
    yield f"From {first:,} {axis} on, the time of {base} grows {_word(sizes, times)}."
    yield f"The time to compile grows {_word(sizes, seconds)}.\n"


def _word(sizes: Sequence[float], values: Sequence[float]) -> str:
    power = exponent(sizes, values)
    if abs(power - 1) <= _NEAR:
        word = "linearly"
    elif power <= _NEAR:
        word = "hardly"
    else:
        word = "less than linearly" if power < 1 else "more than linearly"
    return f"{word} (exponent {power:.2f})"


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the power of the size with which the largest values grow, by least squares."""
    points = [(math.log(size), math.log(value)) for size, value in zip(sizes, values, strict=True)][
        -_FITTED:
    ]
    middle_x, middle_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    above = sum((x - middle_x) * (y - middle_y) for x, y in points)
    return above / sum((x - middle_x) ** 2 for x, _ in points)
