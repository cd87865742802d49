"""How the time of a step, and of its compilation, grows with arrays and with elements."""

import argparse
import gc
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

import environment
import figure
import peers
import report
from measuring import Row, measure
from optimizers import CASES, Case
from shapes import Shape

_SIDE = 16
_ARRAYS = (10, 30, 100, 300, 1000, 3000)
_ELEMENTS = (10**4, 10**5, 10**6, 10**7, 10**8)
_QUICK_ARRAYS = (2, 4)
_QUICK_ELEMENTS = (10, 100)
_COPIED_ELEMENTS = 32_000_000


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write scaling.json and scaling.png."""
    arguments = _arguments(argv)
    cores = environment.use_all_cores()
    arguments.out.mkdir(parents=True, exist_ok=True)
    case = next(case for case in CASES if case.name == arguments.optimizer)
    points = _points(arguments.quick)
    rows = []
    for row in tqdm(_rows(points, case, arguments), total=len(points), unit="row"):
        rows.append(row)
        result = {"environment": environment.describe(cores), "rows": rows}
        (arguments.out / "scaling.json").write_text(json.dumps(result, indent=1))
    figure.draw_growth(rows, arguments.out / "scaling.png")
    print(report.text(rows))


def _points(quick: bool) -> list[tuple[str, list[Shape]]]:
    """Return what grows and the shapes, point by point."""
    arrays = _QUICK_ARRAYS if quick else _ARRAYS
    elements = _QUICK_ELEMENTS if quick else _ELEMENTS
    by_arrays: list[tuple[str, list[Shape]]] = [
        ("arrays", [(_SIDE, _SIDE)] * count) for count in arrays
    ]
    return by_arrays + [("elements", [(count,)]) for count in elements]


def _rows(
    points: Sequence[tuple[str, list[Shape]]], case: Case, arguments: argparse.Namespace
) -> Iterator[Row]:
    copied = 100_000 if arguments.quick else _COPIED_ELEMENTS
    for axis, shapes in points:
        elements = sum(shape[0] * shape[-1] if len(shape) > 1 else shape[0] for shape in shapes)
        steppers = peers.prepare(case, shapes)
        labels = {"workload": f"by {axis}", "axis": axis, "optimizer": case.name}
        sizes = {"arrays": len(shapes), "elements": elements}
        found = measure(steppers, arguments.repeats, case.bytes_moved(elements), copied)
        yield labels | sizes | found
        del steppers
        gc.collect()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--optimizer",
        choices=[case.name for case in CASES],
        default="sgd nesterov decay",
        metavar="NAME",
        help="as in step.py (default: %(default)s)",
    )
    parser.add_argument("--repeats", type=int, help="rounds (default: 20; 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to see that it runs")
    parser.add_argument(
        "--out", type=Path, default=Path("."), help="folder for scaling.json and scaling.png"
    )
    arguments = parser.parse_args(argv)
    arguments.repeats = arguments.repeats or (3 if arguments.quick else 20)
    return arguments


if __name__ == "__main__":
    main()
