"""What differs between two checkpoints, as JSON."""

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from torchwise.comparison.distance import BINS
from torchwise.comparison.report import Compared, Report
from torchwise.inspection.values import shown

_FORMAT = 1


def difference_as_json(report: Report, first: str, second: str) -> Iterator[str]:
    """Yield a JSON document; the page on checkpoints says what is in it.

    Args:
        report: what `compare` returned.
        first: the name of the first file.
        second: the name of the second file.
    """
    ulps = [0, *(2**power for power in range(BINS - 2)), "inf"]
    bins = [{"ulps": low, "elements": count} for low, count in zip(ulps, report.bins) if count]
    document = {
        "format": _FORMAT,
        "first": first,
        "second": second,
        "within": report.is_within,
        "only_in_first": [_side(name, one) for name, one in report.only_one.items()],
        "only_in_second": [_side(name, one) for name, one in report.only_other.items()],
        "shapes": list(map(_sides, report.shapes)),
        "types": list(map(_sides, report.types)),
        "values": list(map(_sides, report.values)),
        "tensors": list(map(_tensor, report.tensors)),
        "equal_tensors": report.equal,
        "equal_values": report.equal_values,
        "zeros_of_other_sign": report.zeros,
        "histogram": bins,
    }
    yield json.dumps(document, allow_nan=False)


def _side(name: str, value: Any) -> dict[str, Any]:
    return {"name": name, **_facts(value)}


def _facts(value: Any) -> dict[str, Any]:
    if isinstance(value, np.ndarray):
        return {"shape": list(value.shape), "dtype": value.dtype.name}
    return {"type": type(value).__name__, "text": shown(value)}


def _sides(both: Compared) -> dict[str, Any]:
    return {"name": both.name, "first": _facts(both.one), "second": _facts(both.other)}


def _tensor(both: Compared) -> dict[str, Any]:
    found = both.distance
    assert found is not None, "it stands among the tensors"
    return {
        **_sides(both),
        "compared": found.is_known,
        "elements": found.size,
        "unequal": found.unequal,
        "beyond": found.beyond,
        "ulps": None if found.ulps is None else _number(found.ulps),
        "relative": _number(found.relative),
        "absolute": _number(found.absolute),
        "at": None if found.place is None else list(found.place),
        "zeros_of_other_sign": found.zeros,
    }


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
