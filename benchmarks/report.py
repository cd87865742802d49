"""The table on stdout, and the list of what is slower than a peer."""

from collections.abc import Sequence
from typing import Any

from measuring import OURS, Row

_HEADER = ("peer", "ms", "x torchwise", "x limit", "compile s", "temp. MB", "peak MB")
_EVEN = 1.02  # a median of this machine's samples is not better than that


def text(rows: Sequence[Row]) -> str:
    """Return one block of lines for each row, and the cells that are lost."""
    blocks = [_block(row) for row in rows]
    lost = [line for row in rows for line in lost_cells(row)]
    verdict = ["Slower than a peer by more than 2 %:", *lost] if lost else ["No cell is slower."]
    return "\n\n".join([*blocks, "\n  ".join(verdict)])


def lost_cells(row: Row) -> list[str]:
    """Return a line for each peer that is faster than torchwise, for each way of using it."""
    return [
        f"{row['workload']} ({row['arrays']} arrays, {row['elements']:,} elements), "
        f"{row['optimizer']}: "
        f"{ours} takes {1 / ratio:.2f} times as long as {peer}"
        for ours in OURS
        for peer, ratio in row["ratios"].get(ours, {}).items()
        if ratio * _EVEN < 1
    ]


def _block(row: Row) -> str:
    title = f"{row['workload']} ({row['arrays']} arrays, {row['elements']:,} elements)"
    title += f", {row['optimizer']}"
    if row["limit_milliseconds"] is not None:
        speed = row["copy_bytes_per_second"] / 1e9
        title += f"; limit {row['limit_milliseconds']:.3f} ms at {speed:.1f} GB/s"
    if not row.get("steady", True):
        title += "; the memory's speed was not that of other rows"
    lines = [_line(row, name, found) for name, found in row["peers"].items()]
    return "\n".join([title, *_aligned([_HEADER, *lines])])


def _line(row: Row, name: str, found: dict[str, Any]) -> tuple[str, ...]:
    median = found["milliseconds"]["median"]
    limit = row["limit_milliseconds"]
    return (
        name,
        f"{median:.3f}",
        _number(row["ratios"].get(OURS[0], {}).get(name), ".2f"),
        _number(None if limit is None else median / limit, ".2f"),
        _number(found["compile_seconds"], ".2f"),
        _number(_megabytes(found["temporary_bytes"]), ".1f"),
        _number(_megabytes(found["peak_bytes"]), ".1f"),
    )


def _megabytes(count: int | None) -> float | None:
    return None if count is None else count / 1e6


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if position else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
