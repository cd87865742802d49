"""From steppers to one row of results: times in turn, ratios, memory."""

import statistics
from typing import Any

import chains
import memory
import peers
import timing
from peers import Stepper

Row = dict[str, Any]

OURS = (chains.FUNCTIONAL, chains.UPDATE, peers.STATEFUL)
_COPY = "copy: "


def measure(
    steppers: dict[str, Stepper], repeats: int, bytes_moved: int | None, copied_elements: int
) -> Row:
    """Return times, ratios and memory of all steppers.

    Args:
        steppers: by name.
        repeats: rounds of interleaved samples.
        bytes_moved: the least traffic of a step; None if memory is not its limit.
        copied_elements: the size of the array whose copying gives the memory's speed.
    """
    runs = {name: stepper.step for name, stepper in steppers.items()}
    copies, copied_bytes = memory.copying(copied_elements)
    runs |= {_COPY + name: run for name, run in copies.items()}
    samples = timing.interleaved(runs, repeats)
    row: Row = {
        "peers": {
            name: {
                "milliseconds": _quartiles(samples[name]),
                "compile_seconds": stepper.compile_seconds,
                "temporary_bytes": stepper.temporary_bytes,
                "peak_bytes": memory.peak_growth(stepper.step),
            }
            for name, stepper in steppers.items()
        },
        "ratios": {
            ours: {
                name: timing.ratio(samples[ours], samples[name])
                for name in steppers
                if name not in OURS
            }
            for ours in OURS
            if ours in steppers
        },
        "rounds": repeats,
    }
    fastest = min(statistics.median(samples[_COPY + name]) for name in copies)
    speed = copied_bytes / fastest
    row["copy_bytes_per_second"] = speed
    row["limit_milliseconds"] = None if bytes_moved is None else 1e3 * bytes_moved / speed
    return row


def _quartiles(samples: list[float]) -> dict[str, float]:
    ordered = sorted(1e3 * sample for sample in samples)
    return {
        "median": statistics.median(ordered),
        "lower": ordered[len(ordered) // 4],
        "upper": ordered[-1 - len(ordered) // 4],
    }
