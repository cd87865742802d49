"""One optimizer step in torch, optax and torchwise, measured in turn in one process."""

import argparse
import gc
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

import environment
import figure
import models
import peers
import report
import training
from measuring import Row, measure
from optimizers import CASES, Case
from shapes import SHAPES, Shape

_TRAINING = {"train MLP": models.mlp, "train transformer": models.transformer}
_QUICK_SHAPES: dict[str, list[Shape]] = {"one array of 1000": [(1000,)], "4 of 8 x 8": [(8, 8)] * 4}
_COPIED_ELEMENTS = 32_000_000  # far more than a cache holds


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the arguments ask for; print the table, write the .json and the .png."""
    arguments = _arguments(argv)
    cores = environment.use_all_cores()
    arguments.out.mkdir(parents=True, exist_ok=True)
    cases = [case for case in CASES if case.name in arguments.optimizers]
    rows = []
    total = len(arguments.shapes) * len(cases)
    for row in tqdm(_rows(arguments, cases), total=total, unit="row"):
        rows.append(row)
        result = {"environment": environment.describe(cores), "rows": rows}
        (arguments.out / f"{arguments.name}.json").write_text(json.dumps(result, indent=1))
    figure.draw_steps(rows, arguments.out / f"{arguments.name}.png")
    print(report.text(rows))


def _rows(arguments: argparse.Namespace, cases: Sequence[Case]) -> Iterator[Row]:
    copied = 100_000 if arguments.quick else _COPIED_ELEMENTS
    size = models.QUICK if arguments.quick else models.FULL
    for name in arguments.shapes:
        for case in cases:
            if name in _TRAINING:
                model = _TRAINING[name](size)
                shapes = [param.shape for param in model.params.values()]
                steppers, traffic = training.prepare(case, model), None
            else:
                shapes = _all_shapes()[name]
                steppers = peers.prepare(case, shapes)
                traffic = case.bytes_moved(_elements(shapes))
            labels = {"workload": name, "optimizer": case.name}
            sizes = {"arrays": len(shapes), "elements": _elements(shapes)}
            yield labels | sizes | measure(steppers, arguments.repeats, traffic, copied)
            del steppers
            gc.collect()


def _elements(shapes: Sequence[Shape]) -> int:
    return sum(int(np.prod(shape)) for shape in shapes)


def _all_shapes() -> dict[str, list[Shape]]:
    return _QUICK_SHAPES | SHAPES


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [case.name for case in CASES]
    workloads = [*SHAPES, *_TRAINING]
    parser.add_argument(
        "--shapes",
        nargs="+",
        choices=[*_QUICK_SHAPES, *workloads],
        metavar="NAME",
        help=f"workloads, out of: {', '.join(workloads)} (default: all of them)",
    )
    parser.add_argument(
        "--optimizers",
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"out of: {', '.join(names)} (default: all of them)",
    )
    parser.add_argument("--repeats", type=int, help="rounds (default: 30; 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to see that it runs")
    parser.add_argument(
        "--out", type=Path, default=Path("."), help="folder for the .json and the .png"
    )
    parser.add_argument("--name", default="step", help="of these files (default: %(default)s)")
    arguments = parser.parse_args(argv)
    quick = arguments.quick
    arguments.shapes = arguments.shapes or [*(_QUICK_SHAPES if quick else SHAPES), *_TRAINING]
    arguments.repeats = arguments.repeats or (3 if quick else 30)
    return arguments


if __name__ == "__main__":
    main()
