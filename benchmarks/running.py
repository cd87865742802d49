"""A run: rows are measured one after the other, and written as soon as they are there."""

import argparse
import gc
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

import environment
import memory
import steadiness
from measuring import Row, measure
from peers import Stepper

Result = dict[str, Any]
_COPIED_ELEMENTS = 32_000_000  # far more than a cache holds
_WAIT = 300.0  # seconds, for a quiet machine


class Point(NamedTuple):
    """What becomes a row.

    Attributes:
        labels: what tells it from others, at least `workload`, `optimizer`, `arrays`, `elements`.
        prepare: returns the steppers.
        rounds: of interleaved samples.
        bytes_moved: the least traffic of a step; None if memory is not its limit.
        bytes_needed: memory that has to be free; 0 where it is no question.
    """

    labels: dict[str, Any]
    prepare: Callable[[], dict[str, Stepper]]
    rounds: int
    bytes_moved: int | None
    bytes_needed: int = 0


def parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all runs have."""
    options = argparse.ArgumentParser(description=description)
    add = options.add_argument
    add("--out", type=Path, default=Path("."), help="folder for the files")
    add("--name", default=name, help="of the files in it (default: %(default)s)")
    add("--repeats", type=int, help="rounds of every row (default: as planned; 3 with --quick)")
    add("--quick", action="store_true", help="tiny shapes and no waiting, to see that it runs")
    add("--continue", dest="resume", action="store_true", help="keep the rows that there are")
    add("--time-limit", type=float, metavar="MINUTES", help="begin no row after that")
    add("--load", type=float, default=0.3, help="to wait for, up to 5 minutes (default: 0.3)")
    return options


def run(points: Sequence[Point], options: argparse.Namespace) -> Result:
    """Measure all points, and write the result after each of them.

    Args:
        points: in the order of the rows.
        options: what `parser` understood.

    Raises:
        SystemExit: for rows to be kept that were measured with other versions.
    """
    start = time.monotonic()
    cores = environment.use_all_cores()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"{options.name}.json"
    result = {"environment": environment.describe(cores), "runs": [], "rows": [], "left_out": []}
    if options.resume and file.exists():
        result = continued(result, json.loads(file.read_text()))
    quiet = steadiness.wait_until_quiet(options.load, 0 if options.quick else _WAIT)
    result["environment"]["load"] = quiet[0]
    began = {"date": result["environment"]["date"], "load": quiet[0], "waited_seconds": quiet[1]}
    result["runs"].append(began)
    for point in tqdm(missing(points, result["rows"]), unit="row"):
        if options.time_limit and time.monotonic() - start > 60 * options.time_limit:
            print("The time is over: run it again with --continue for the rows that are missing.")
            break
        _add(result, point, options)
        gc.collect()  # before the next one takes memory
        result["rows"] = ordered(result["rows"], points)
        _write(file, result)
    _write(file, result)
    return result


def continued(result: Result, old: Result) -> Result:
    """Return a result that begins with the rows of an old one.

    Raises:
        SystemExit: if the old one was measured with other versions, or elsewhere.
    """
    for key in ("versions", "device", "cores"):
        now, before = result["environment"][key], old["environment"][key]
        if now != before:
            raise SystemExit(
                f"The rows that there are were measured with other {key}, {before}; now: {now}. "
                "Measure all of them again, without --continue."
            )
    return result | {"runs": old.get("runs", []), "rows": old["rows"]}


def missing(points: Sequence[Point], rows: Sequence[Row]) -> list[Point]:
    """Return the points that have no row."""
    return [point for point in points if not any(_is_of(row, point) for row in rows)]


def ordered(rows: Sequence[Row], points: Sequence[Point]) -> list[Row]:
    """Return the rows in the order of the points; before them, rows that are of none."""

    def place(row: Row) -> int:
        return next((index for index, point in enumerate(points) if _is_of(row, point)), -1)

    return sorted(rows, key=place)


def _is_of(row: Row, point: Point) -> bool:
    return all(row.get(key) == value for key, value in point.labels.items())


def _add(result: Result, point: Point, options: argparse.Namespace) -> None:
    free = memory.available()
    if free is not None and point.bytes_needed > free:
        needed = f"memory: {point.bytes_needed / 1e9:.0f} GB needed, {free / 1e9:.0f} GB free"
        result["left_out"].append({"labels": point.labels, "reason": needed})
        return
    others, before = steadiness.Others(), steadiness.load()
    start = time.perf_counter()
    steppers = point.prepare()
    prepared = time.perf_counter() - start
    copied = 100_000 if options.quick else _COPIED_ELEMENTS
    rows = result["rows"]
    again = sum(len(row.get("tried_bytes_per_second", [0])) - 1 for row in rows)
    row = steadiness.steady(
        lambda: measure(steppers, options.repeats or point.rounds, point.bytes_moved, copied),
        [row["copy_bytes_per_second"] for row in rows if row["copy_bytes_per_second"]],
        0 if options.quick else min(steadiness.AGAIN, steadiness.AGAIN_IN_ALL - again),
    )
    busy = {"load": before, "others_cores": others.cores(), "preparation_seconds": prepared}
    rows.append(point.labels | busy | row)


def _write(file: Path, result: Result) -> None:
    """Replace the file as a whole, so that a run that is ended leaves one that can be read."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(result, indent=1))
    part.replace(file)
