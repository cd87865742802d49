"""Measuring in turn: on a machine whose speed changes, ratios of neighbours in time still hold."""

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping

Run = Callable[[], object]

_WARM_UPS = 2
_PAUSE = 0.02  # seconds; OpenMP's idle threads spin for milliseconds on cores that others need


def seconds(run: Run, calls: int = 1) -> float:
    """Return the duration of one call, as the mean of several in a row."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def interleaved(
    runs: Mapping[str, Run], repeats: int, shortest: float = 2e-3
) -> dict[str, list[float]]:
    """Return the seconds per call of every run, in every round.

    Args:
        runs: each does its work to the end before it returns.
        repeats: rounds; each takes a sample of all runs, in an order drawn anew. A sample begins
            with a pause, in which the threads of the run before fall asleep, and a call that does
            not count, so that caches hold a run's own data and not another's.
        shortest: how many seconds a sample takes at least; shorter runs are called repeatedly.
    """
    calls = {}
    for name, run in runs.items():
        for _ in range(_WARM_UPS):
            duration = seconds(run)
        calls[name] = max(1, math.ceil(shortest / duration))
    samples: dict[str, list[float]] = {name: [] for name in runs}
    generator = random.Random(0)
    for _ in range(repeats):
        for name in generator.sample(list(runs), len(runs)):
            time.sleep(_PAUSE)
            runs[name]()
            samples[name].append(seconds(runs[name], calls[name]))
    return samples


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Return how many times as long as ours theirs took: the median over the rounds."""
    return statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
