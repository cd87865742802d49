"""Two checkpoints side by side."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torchwise.comparison.distance import BINS, Distance, distance, similar
from torchwise.comparison.leaves import kind_of
from torchwise.comparison.limits import Limits


@dataclass(frozen=True, slots=True)
class Compared:
    """One name that both checkpoints have, and what differs under it.

    Attributes:
        name: the keys that lead to it.
        one: the value in the first checkpoint.
        other: the value in the second.
        distance: of two tensors; None where they have no distance.
    """

    name: str
    one: Any
    other: Any
    distance: Distance | None = None


@dataclass(slots=True)
class Report:
    """What differs.

    Attributes:
        only_one: what the first checkpoint alone has.
        only_other: what the second alone has.
        shapes: tensors of different shapes.
        types: tensors of different types, and values of different kinds, unless types are ignored.
        values: what is no tensor and is not equal.
        tensors: those that are not equal, the furthest first.
        equal: the number of tensors that are equal.
        equal_values: the number of other values that are equal, or floats within the limits.
        zeros: how many zeros have another sign; they are equal.
        bins: elements of all tensors by their distance in ulps.
    """

    only_one: Mapping[str, Any]
    only_other: Mapping[str, Any]
    shapes: list[Compared] = field(default_factory=list)
    types: list[Compared] = field(default_factory=list)
    values: list[Compared] = field(default_factory=list)
    tensors: list[Compared] = field(default_factory=list)
    equal: int = 0
    equal_values: int = 0
    zeros: int = 0
    bins: list[int] = field(default_factory=lambda: [0] * BINS)

    @property
    def is_within(self) -> bool:
        """Whether the checkpoints are equal within the limits."""
        missing = self.only_one or self.only_other
        others = self.shapes or self.types or self.values
        beyond = any(one.distance is not None and one.distance.beyond for one in self.tensors)
        return not (missing or others or beyond)


def compare(one: Mapping[str, Any], other: Mapping[str, Any], limits: Limits) -> Report:
    """Compare what `leaves` found in two checkpoints."""
    report = Report(
        {name: value for name, value in one.items() if name not in other},
        {name: value for name, value in other.items() if name not in one},
    )
    for name in one:
        if name in other:
            _compare(report, Compared(name, one[name], other[name]), limits)
    report.tensors.sort(key=_rank)
    return report


def _compare(report: Report, both: Compared, limits: Limits) -> None:
    one, other = both.one, both.other
    if kind_of(one) != kind_of(other):
        report.types.append(both)
    elif not isinstance(one, np.ndarray):
        if _same(one, other, limits):
            report.equal_values += 1
        else:
            report.values.append(both)
    elif one.shape != other.shape:
        report.shapes.append(both)
    else:
        ignored = limits.ignore_types and similar(one.dtype, other.dtype)
        found = None
        if similar(one.dtype, other.dtype):
            found = distance(one, other, limits)
            report.zeros += found.zeros
            for index, count in enumerate(found.bins):
                report.bins[index] += count
        both = Compared(both.name, one, other, found)
        if one.dtype != other.dtype and not ignored:
            report.types.append(both)
        elif found is not None and found.unequal:
            report.tensors.append(both)
        else:
            report.equal += 1


def _same(one: Any, other: Any, limits: Limits) -> bool:
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(
            type(x) is type(y) and _same(x, y, limits) for x, y in zip(one, other)
        )
    if isinstance(one, float):
        return distance(np.array(one), np.array(other), limits).beyond == 0
    return bool(one == other)


def _rank(both: Compared) -> tuple[bool, float, float, float]:
    """What is beyond the limits comes first, and what has no ulps before what has."""
    found = both.distance
    assert found is not None
    ulps = math.inf if found.ulps is None else found.ulps
    return (not found.beyond, -ulps, -found.relative, -found.absolute)
