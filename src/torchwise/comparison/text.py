"""What differs between two checkpoints, as lines of text."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from torchwise.comparison.distance import BINS, Distance
from torchwise.comparison.report import Compared, Report
from torchwise.inspection.values import counted, cut, name_text, printable, shown, table

_BAR = 40  # characters


def describe_difference(report: Report, *, rows: int, histogram: bool) -> Iterator[str]:
    """Yield lines about what differs; the last one says how much does not.

    Args:
        report: what `compare` returned.
        rows: how many lines a table may have.
        histogram: whether to show how many elements are how many ulps apart.
    """
    for line in _lines(report, rows, histogram):
        yield printable(line)


def _lines(report: Report, rows: int, histogram: bool) -> Iterator[str]:
    yield from _missing("only in the first", report.only_one, rows)
    yield from _missing("only in the second", report.only_other, rows)
    for title, word, both in (
        ("of another shape", "tensor", report.shapes),
        ("of another type", "value", report.types),
        ("that are not equal", "value", report.values),
    ):
        if both:
            yield f"{counted(len(both), word)} {title}"
            yield from _cut_table(["name", "first", "second"], map(_sides, both), len(both), rows)
    yield from _tensors(report.tensors, rows)
    if report.zeros:
        yield f"{counted(report.zeros, 'zero')} of another sign, which count as equal"
    if histogram and sum(report.bins[1:]):
        yield from _histogram(report.bins)
    near = sum(not _found(one).beyond for one in report.tensors)
    yield (
        f"{counted(report.equal, 'tensor')} equal, {near} not equal but within the limits, "
        f"{len(report.tensors) - near} beyond; {counted(report.equal_values, 'other value')} equal"
    )


def _missing(title: str, values: Mapping[str, Any], rows: int) -> Iterator[str]:
    if values:
        yield f"{counted(len(values), 'value')} {title}"
        lines = ([name_text(name), _side(value)] for name, value in values.items())
        yield from _cut_table(["name", "value"], lines, len(values), rows)


def _tensors(tensors: Sequence[Compared], rows: int) -> Iterator[str]:
    if not tensors:
        return
    yield f"{counted(len(tensors), 'tensor')} with other elements, the furthest first"
    header = ["name", "shape", "dtype", "ulps", "relative", "absolute", "elements", "at", ""]
    yield from _cut_table(header, map(_row, tensors), len(tensors), rows)


def _row(both: Compared) -> list[str]:
    found = _found(both)
    start = [name_text(both.name), cut(shown(both.one.shape)), _dtypes(both)]
    if not found.is_known:
        return [*start, *"----", "-", "dimensions overlap: not compared"]
    place = "-" if found.place is None else cut(shown(found.place))
    count = f"{found.unequal} of {found.size}"
    note = "" if found.beyond else "within the limits"
    return [
        *start,
        _ulps(found),
        *map(_number, (found.relative, found.absolute)),
        count,
        place,
        note,
    ]


def _dtypes(both: Compared) -> str:
    names = dict.fromkeys([both.one.dtype.name, both.other.dtype.name])
    return " ".join(names)


def _ulps(found: Distance) -> str:
    if found.ulps is None:
        return "-"
    return "inf" if math.isinf(found.ulps) else str(found.ulps)


def _number(value: float) -> str:
    return f"{value:.3g}"


def _sides(both: Compared) -> list[str]:
    sides = [name_text(both.name), _side(both.one), _side(both.other)]
    if both.distance is not None and both.distance.unequal:
        sides.append(f"{_number(both.distance.relative)} apart, relative")
    return [*sides, ""][:4]


def _side(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{cut(shown(value.shape))} {value.dtype.name}"
    if value is None or isinstance(value, str):
        return cut(shown(value))
    text = repr(value) if isinstance(value, float) else shown(value)  # all digits: some differ
    return f"{cut(text)} ({type(value).__name__})"


def _found(both: Compared) -> Distance:
    assert both.distance is not None, "it stands among the tensors"
    return both.distance


def _cut_table(header: list[str], lines: Any, count: int, rows: int) -> Iterator[str]:
    shown_lines = [line for line, _ in zip(lines, range(rows))]
    width = max((len(line) for line in shown_lines), default=0)
    yield from table([*header, *[""] * (width - len(header))], shown_lines)
    if count > rows:
        yield f"  and {count - rows} more (--rows {count} shows them)"


def _histogram(bins: Sequence[int]) -> Iterator[str]:
    """Yield a bar for each power of two; the lengths are logarithms, since most are equal."""
    yield "elements by their distance in ulps, in logarithmic bars"
    last = max(index for index, count in enumerate(bins[:-1]) if count or index == 0)
    chosen = [*range(last + 1), *([BINS - 1] if bins[-1] else [])]
    most = math.log2(1 + max(bins))
    rows = [
        [_bin(index), "#" * round(_BAR * math.log2(1 + bins[index]) / most), str(bins[index])]
        for index in chosen
    ]
    yield from table(["ulps", "", "elements"], rows)


def _bin(index: int) -> str:
    if index < 2:
        return str(index)
    if index == BINS - 1:
        return "inf"
    first, last = 2 ** (index - 1), 2**index - 1
    return f"{first} to {last}" if index < 20 else f"from 2**{index - 1}"
