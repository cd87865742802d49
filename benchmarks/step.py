"""One optimizer step in torch, optax and torchwise, measured in turn in one process."""

import functools
from collections.abc import Iterator, Sequence

import cells
import figure
import models
import peers
import report
import running
import training
from cells import Plan
from optimizers import Case
from running import Point
from shapes import SHAPES, count


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the arguments ask for; print the table, write the .json and the .png."""
    parser = running.parser(__doc__, "step")
    parser.add_argument(
        "--shapes",
        nargs="+",
        choices=[*cells.QUICK_SHAPES, *cells.WORKLOADS],
        metavar="NAME",
        help=f"workloads, out of: {', '.join(cells.WORKLOADS)} (default: all of them)",
    )
    parser.add_argument(
        "--optimizers",
        nargs="+",
        choices=cells.NAMES,
        metavar="NAME",
        help=f"out of: {', '.join(cells.NAMES)} (default: those planned for each workload)",
    )
    arguments = parser.parse_args(argv)
    wanted = cells.chosen(arguments.shapes, arguments.optimizers, arguments.quick)
    points = [point for one in wanted for point in _points(*one, quick=arguments.quick)]
    result = running.run(points, arguments)
    figure.draw_steps(result["rows"], arguments.out / f"{arguments.name}.png")
    print(report.text(result["rows"]))


def _points(workload: str, case: Case, plan: Plan, quick: bool) -> Iterator[Point]:
    """Yield the point of a row; none, with a word about it, where the optimizer takes nothing."""
    if workload in cells.TRAINING:
        model = cells.TRAINING[workload](models.QUICK if quick else models.FULL)
        shapes = [param.shape for param in model.params.values()]
        prepare, traffic = functools.partial(training.prepare, case, model), None
        taken = shapes if case.taken(shapes) == shapes else []
    else:
        shapes = (cells.QUICK_SHAPES | SHAPES)[workload]
        taken = case.taken(shapes)
        prepare = functools.partial(peers.prepare, case, taken, plan.peers)
        traffic = case.traffic(taken)
    if not taken:
        print(f"{workload} is left out: {case.name} takes matrices alone.")
        return
    labels = {
        "workload": workload,
        "optimizer": case.name,
        "arrays": len(taken),
        "elements": sum(map(count, taken)),
    }
    if len(taken) < len(shapes):
        labels["arrays_left_out"] = len(shapes) - len(taken)
    yield Point(labels, prepare, plan.rounds, traffic)


if __name__ == "__main__":
    main()
