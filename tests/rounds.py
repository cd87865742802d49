"""Which cases are in the daily round, `pytest -m "not slow"`; the others are slow."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest

from cases import FULL, OPTIMIZERS, Case, full

FIRST = [full(*row)[0] for row in OPTIMIZERS.items()]  # one case of each optimizer, with many terms


def exhaustive(test: Any) -> Any:
    """Mark a test that is too long for `pytest`; `pytest -m exhaustive` runs it."""
    return pytest.mark.slow(pytest.mark.exhaustive(test))


def both_types() -> list[Any]:
    """Types as parameters of a test: float64 is exhaustive."""
    marks = (pytest.mark.slow, pytest.mark.exhaustive)
    return ["float32", pytest.param("float64", marks=marks)]


def each(
    cases: Iterable[Case] = FULL,
    daily: Collection[Case] = FIRST,
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


def names_of(cases: Iterable[Case], *others: str) -> list[Any]:
    """The names of cases, and others, as parameters of a test; all but the first are slow."""
    names = [*(case.name for case in cases), *others]
    return [
        pytest.param(name, marks=pytest.mark.slow if index else ())
        for index, name in enumerate(names)
    ]
