"""Which cases are in the daily round, `pytest -m "not slow"`; the others are slow."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest

from cases import FULL, OPTIMIZERS, Case, full

FIRST = [full(*row)[0] for row in OPTIMIZERS.items()]  # one case of each optimizer, with many terms


def exhaustive(test: Any) -> Any:
    """Mark a test that is too long for `pytest`; `pytest -m exhaustive` runs it, and `.ci/run`."""
    return pytest.mark.slow(pytest.mark.exhaustive(test))


def each(cases: Iterable[Case] = FULL, daily: Collection[Case] = FIRST) -> list[Any]:
    """The cases as parameters of a test; those that are not in `daily` are slow."""
    return [
        pytest.param(case, id=case.name, marks=() if case in daily else pytest.mark.slow)
        for case in cases
    ]


def names_of(cases: Iterable[Case], *others: str) -> list[Any]:
    """The names of cases, and others, as parameters of a test; all but the first are slow."""
    names = [*(case.name for case in cases), *others]
    return [
        pytest.param(name, marks=pytest.mark.slow if index else ())
        for index, name in enumerate(names)
    ]
