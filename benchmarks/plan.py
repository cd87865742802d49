"""Bytes and seconds of a step for models that no single machine holds, from a model of memory.

An update does a few operations for each number that it reads, so memory decides: seconds are bytes
moved over bandwidth. Every device updates its own share and sends nothing, so shares add up.
"""

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from optimizers import CASES, Case

BEGIN, END = "<!-- plan: begin -->", "<!-- plan: end -->"
_PARAMETERS = (10**9, 10**10, 10**11, 10**12)
_PLANNED = ("sgd", "sgd momentum", "adagrad")
_ITEMSIZE = 4  # float32
_ROOM = 0.5  # of a device's memory; the rest is for activations


class Device(NamedTuple):
    """Memory of one accelerator, or of one socket.

    Attributes:
        name: as its maker calls it.
        bandwidth: bytes per second, from the datasheet.
        capacity: bytes.
    """

    name: str
    bandwidth: float
    capacity: float


DEVICES = (
    Device("H100 SXM", 3.35e12, 80e9),
    Device("H200", 4.8e12, 141e9),
    Device("TPU v5e", 0.819e12, 16e9),
    Device("TPU v5p", 2.765e12, 95e9),
    Device("TPU v6e", 1.6e12, 32e9),
    Device("EPYC 9004, 12 x DDR5-4800", 0.4608e12, 384e9),
)


def bytes_held(case: Case, parameters: int) -> int:
    """Return the bytes of parameters, gradients and states."""
    return (2 + case.states) * _ITEMSIZE * parameters


def devices_needed(case: Case, parameters: int, device: Device) -> int:
    """Return how many devices hold all of it in the share of memory that is theirs to fill."""
    return math.ceil(bytes_held(case, parameters) / (_ROOM * device.capacity))


def seconds(case: Case, parameters: int, device: Device, count: int) -> float:
    """Return the duration of an update on so many devices, at the datasheet's bandwidth."""
    return case.bytes_moved(parameters, _ITEMSIZE) / (count * device.bandwidth)


def text() -> str:
    """Return the tables in Markdown, from datasheets alone."""
    cases = [case for case in CASES if case.name in _PLANNED]
    return "\n\n".join([_bytes_table(cases), _seconds_table(cases)])


def _bytes_table(cases: Sequence[Case]) -> str:
    rows = [["parameters", *(f"{case.name}: held / moved" for case in cases)]]
    for parameters in _PARAMETERS:
        cells = [
            f"{_bytes(bytes_held(case, parameters))} / "
            f"{_bytes(case.bytes_moved(parameters, _ITEMSIZE))}"
            for case in cases
        ]
        rows.append([_power(parameters), *cells])
    return _markdown(rows)


def _seconds_table(cases: Sequence[Case]) -> str:
    with_state = cases[-1]
    rows = [["device", "TB/s", *(_power(parameters) for parameters in _PARAMETERS)]]
    for device in DEVICES:
        cells = []
        for parameters in _PARAMETERS:
            count = devices_needed(with_state, parameters, device)
            duration = seconds(with_state, parameters, device, count)
            cells.append(f"{count:,} x: {1e3 * duration:.1f} ms")
        rows.append([device.name, f"{device.bandwidth / 1e12:.2f}", *cells])
    return _markdown(rows)


def measured(result: dict[str, Any]) -> str:
    """Return a table of how much of the limit each optimizer reached in a run of step.py."""
    rows = [["optimizer", "GB/s measured", "share of the limit", "ms for 1e9 parameters"]]
    for case in CASES:
        found = [row for row in result["rows"] if row["optimizer"] == case.name]
        found = [row for row in found if row["limit_milliseconds"] is not None]
        if not found:
            continue
        largest = max(found, key=lambda row: row["elements"])
        ours = largest["peers"]["torchwise"]["milliseconds"]["median"]
        share = largest["limit_milliseconds"] / ours
        speed = statistics.median(row["copy_bytes_per_second"] for row in found)
        duration = case.bytes_moved(10**9) / (speed * share)
        cells = (f"{speed / 1e9:.1f}", f"{share:.0%}", f"{1e3 * duration:.0f}")
        rows.append([case.name, *cells])
    environment = result["environment"]
    place = f"{environment['processor'] or environment['device']}, {environment['cores']} cores"
    return f"Measured on {place}, {environment['date'][:10]}:\n\n{_markdown(rows)}"


def _power(count: int) -> str:
    return f"1e{round(math.log10(count))}"


def _bytes(count: float) -> str:
    return f"{count / 1e9:.3g} GB" if count < 1e12 else f"{count / 1e12:.3g} TB"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    header, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([header, "|" + " --- |" * len(rows[0]), *body])


def main(argv: Sequence[str] | None = None) -> None:
    """Print the plan, or write it into a document between its two marks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measured", type=Path, help="step.json of a run of step.py")
    parser.add_argument("--write", type=Path, help="a document with the marks of the plan")
    arguments = parser.parse_args(argv)
    parts = [text()]
    if arguments.measured:
        parts.append(measured(json.loads(arguments.measured.read_text())))
    plan = "\n\n".join(parts)
    if arguments.write is None:
        print(plan)
        return
    before, rest = arguments.write.read_text().split(BEGIN)
    after = rest.split(END)[1]
    arguments.write.write_text(f"{before}{BEGIN}\n\n{plan}\n\n{END}{after}")


if __name__ == "__main__":
    main()
