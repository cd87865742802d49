"""Which cases are in the quick round, `pytest`; the others are slow."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest

from cases import FULL, OPTIMIZERS, Case, full

FIRST = [full(*row)[0] for row in OPTIMIZERS.items()]  # one case of each optimizer, with many terms

DAILY = [case for case in FIRST if case.optimizer.stateful in ("SGD", "Adam")]


def exhaustive(test: Any) -> Any:
    """Mark a test that is too long for `pytest`; `pytest -m exhaustive` runs it."""
    return pytest.mark.slow(pytest.mark.exhaustive(test))


def both_types(one: str = "float32", other: str = "float64") -> list[Any]:
    """Types as parameters of a test: the other is exhaustive."""
    return [one, pytest.param(other, marks=(pytest.mark.slow, pytest.mark.exhaustive))]


def each(
    cases: Iterable[Case] = FULL,
    daily: Collection[Case] = DAILY,
    usual: Collection[Case] | None = None,
) -> list[Any]:
    """The cases as parameters of a test.

    Args:
        cases: all of them.
        daily: those that are not in it are slow.
        usual: those that are not in it are exhaustive; by default all are.
    """

    def marks(case: Case) -> tuple[Any, ...]:
        if usual is not None and case not in usual:
            return pytest.mark.slow, pytest.mark.exhaustive
        return () if case in daily else (pytest.mark.slow,)

    return [pytest.param(case, id=case.name, marks=marks(case)) for case in cases]


# One buffer, one sum of squares, two averages, numbers of a parameter.
DIFFERENT = {
    case.name for case in FIRST if case.optimizer.stateful in ("SGD", "Adagrad", "Adam", "ASGD")
}
EXHAUSTIVE = pytest.mark.exhaustive


def names_of(cases: Iterable[Case], *others: str) -> list[Any]:
    """The names of cases, and others, as parameters of a test; all but the first are slow.

    Cases whose states are like those of another are exhaustive.
    """
    names = [*(case.name for case in cases), *others]
    usual = {*DIFFERENT, *others}
    marks = [
        () if index == 0 else (pytest.mark.slow, *(() if name in usual else (EXHAUSTIVE,)))
        for index, name in enumerate(names)
    ]
    return [pytest.param(name, marks=mark) for name, mark in zip(names, marks)]
