"""Whether the machine was quiet, and whether its memory was as fast for one row as for others."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DRIFT = 0.15  # of the median speed of memory; beyond, a row is measured again
AGAIN = 2  # how often one row is measured again
AGAIN_IN_ALL = 12  # how often all rows of a run are, so that a lasting change costs minutes
_STAT = Path("/proc/stat")
_IDLE = (3, 4)  # fields of a line of /proc/stat that are not work
_GUESTS = 8  # from this field on, work is counted that other fields contain


def load() -> float:
    """Return the load average of the last minute, which contains this process's own work."""
    return os.getloadavg()[0]


def wait_until_quiet(
    limit: float,
    seconds: float,
    read: Callable[[], float] = load,
    sleep: Callable[[float], object] = time.sleep,
) -> tuple[float, float]:
    """Wait until the load is low enough, or for so many seconds; return the load and the wait.

    Args:
        limit: the load average that is quiet.
        seconds: how long to wait at most.
        read: returns the load.
        sleep: waits.
    """
    waited, pause = 0.0, 5.0
    while (found := read()) > limit and waited < seconds:
        sleep(pause)
        waited += pause
    return found, waited


def drifted(speed: float, before: Sequence[float]) -> bool:
    """Whether a speed of memory is too far from the median of those before it."""
    return bool(before) and abs(speed / statistics.median(before) - 1) > DRIFT


def steady(
    measure: Callable[[], dict[str, Any]], before: Sequence[float], again: int = AGAIN
) -> dict[str, Any]:
    """Return a row whose memory was as fast as before, or the last try, marked.

    Args:
        measure: returns a row.
        before: the speeds of the rows before.
        again: how often it may be measured again.

    Returns:
        The row, with `steady` and `tried_bytes_per_second`, the speeds of all tries.
    """
    speeds = []
    while True:
        row = measure()
        speeds.append(row["copy_bytes_per_second"])
        is_steady = not drifted(speeds[-1], before)
        if is_steady or len(speeds) > again:
            return row | {"steady": is_steady, "tried_bytes_per_second": speeds}


class Others:
    """The work of other processes since this was made; own work is taken off."""

    def __init__(self) -> None:
        self._start = _counts()

    def cores(self) -> float | None:
        """Return how many cores they kept busy in the mean; None if not on Linux."""
        now = _counts()
        if self._start is None or now is None:
            return None
        (busy, own, clock), (busy_before, own_before, clock_before) = now, self._start
        return max(0.0, (busy - busy_before - (own - own_before)) / (clock - clock_before))


def _counts() -> tuple[float, float, float] | None:
    """Return seconds: of all cores at work, of this process, and of the clock."""
    try:
        fields = _STAT.read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    work = [int(field) for index, field in enumerate(fields[:_GUESTS]) if index not in _IDLE]
    return sum(work) / os.sysconf("SC_CLK_TCK"), time.process_time(), time.perf_counter()
