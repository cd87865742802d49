"""How the time of a step, and of its compilation, grows with arrays, groups and elements."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

import chains
import figure
import peers
import report
import running
from optimizers import CASES, Case
from peers import Stepper
from running import Point
from shapes import Shape, count

_SIDE = 16
_ARRAYS = (10, 30, 100, 300, 1000, 3000, 10_000)
_ELEMENTS = (10**4, 10**5, 10**6, 10**7, 10**8, 10**9)
_GROUPS = (1, 10, 100, 500)
_QUICK_ARRAYS, _QUICK_ELEMENTS, _QUICK_GROUPS = (2, 4), (10, 100), (1, 2)
_ONE_OPTIMIZER = "sgd momentum"  # beyond these limits, where others take too long or too much
_MOST_ARRAYS, _MOST_ELEMENTS = 3000, 10**8
_OF_MANY_ARRAYS = {chains.FUNCTIONAL, chains.OPTAX, *peers.TORCH}
_OF_MANY_ELEMENTS = {chains.FUNCTIONAL, "torch fused"}
ONE_GROUP = "one group"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write scaling.json and scaling.png."""
    parser = running.parser(__doc__, "scaling")
    parser.add_argument(
        "--optimizer",
        choices=[case.name for case in CASES],
        default=_ONE_OPTIMIZER,
        metavar="NAME",
        help="as in step.py (default: %(default)s)",
    )
    parser.add_argument(
        "--axes",
        nargs="+",
        choices=["arrays", "groups", "elements"],
        default=["arrays", "groups", "elements"],
        help="what grows (default: all)",
    )
    arguments = parser.parse_args(argv)
    case = next(case for case in CASES if case.name == arguments.optimizer)
    points = [
        point
        for point in points_of(case, arguments.quick)
        if point.labels["axis"] in arguments.axes
    ]
    result = running.run(points, arguments)
    figure.draw_growth(result["rows"], arguments.out / f"{arguments.name}.png")
    print(report.text(result["rows"]))


def points_of(case: Case, quick: bool) -> Iterator[Point]:
    """Yield what is measured; the largest with one optimizer and few peers."""
    for arrays in _QUICK_ARRAYS if quick else _ARRAYS:
        chosen = _OF_MANY_ARRAYS if arrays > _MOST_ARRAYS else None
        if chosen is None or case.name == _ONE_OPTIMIZER:
            yield _point("arrays", case, [(_SIDE, _SIDE)] * arrays, chosen)
    for groups in _QUICK_GROUPS if quick else _GROUPS:
        shapes = [(_SIDE, _SIDE)] * max(_QUICK_GROUPS if quick else _GROUPS)
        prepare = functools.partial(_grouped, case, shapes, groups)
        labels = _labels("groups", case, shapes) | {"groups": groups}
        yield Point(labels, prepare, 3 if quick else 30, case.traffic(shapes))
    for elements in _QUICK_ELEMENTS if quick else _ELEMENTS:
        chosen = _OF_MANY_ELEMENTS if elements > _MOST_ELEMENTS else None
        if chosen is None or case.name == _ONE_OPTIMIZER:
            yield _point("elements", case, [(elements,)], chosen)


def _point(axis: str, case: Case, shapes: list[Shape], chosen: set[str] | None) -> Point:
    labels = _labels(axis, case, shapes)
    needed = 0
    if chosen is not None:  # gradients are shared; a tenth more is for the process
        held = 1 + len(chosen) * (1 + case.states)
        needed = round(1.1 * 4 * labels["elements"] * held)
    prepare = functools.partial(peers.prepare, case, shapes, chosen)
    rounds = 20 if labels["elements"] < _MOST_ELEMENTS else 8
    return Point(labels, prepare, rounds, case.traffic(shapes), needed)


def _labels(axis: str, case: Case, shapes: Sequence[Shape]) -> dict[str, Any]:
    sizes = {"arrays": len(shapes), "elements": sum(map(count, shapes))}
    return {"workload": f"by {axis}", "axis": axis, "optimizer": case.name} | sizes


def _grouped(case: Case, shapes: Sequence[Shape], groups: int) -> dict[str, Stepper]:
    """Return steppers with so many groups, each with its rate, and ours with one group."""
    generator = np.random.default_rng(0)
    grads = [jax.device_put(generator.standard_normal(shape, np.float32)) for shape in shapes]
    steppers = {}
    for name, number in ((peers.STATEFUL, groups), (ONE_GROUP, 1)):
        jax.clear_caches()  # or a program would be there before
        steppers[name] = peers.stateful(case, grads, number)
    for name in peers.torch_implementations(case):
        steppers[name] = peers.in_torch(case, name, grads, groups)
    return steppers


if __name__ == "__main__":
    main()
