"""Host time of one stateful step: with a learning rate that stays, and with a new one every time.

A new rate should be other data and not another program. The difference is what Python does about
it before the program starts, so the arrays are small and the program is not waited for.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

import timing
from torchwise import optim

_ARRAYS = (1, 100)
_SHAPE = (4, 4)
_RATE = 0.1
_WARM_UPS = 20


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each number of arrays."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, help="pairs of steps (default: 2000; 20 if quick)")
    parser.add_argument("--quick", action="store_true", help="few steps, to see that it runs")
    arguments = parser.parse_args(argv)
    repeats = arguments.repeats or (20 if arguments.quick else 2000)
    print("SGD with momentum, host time per step (medians)")
    for arrays in _ARRAYS:
        fixed, changed = paired_seconds(arrays, repeats)
        print(
            f"{arrays:>4} arrays: lr fixed {_microseconds(fixed)}, lr changed "
            f"{_microseconds(changed)}, ratio {timing.ratio(fixed, changed):.2f}"
        )


def paired_seconds(arrays: int, repeats: int) -> tuple[list[float], list[float]]:
    """Return the host seconds of steps with a fixed and with a changed rate, pair by pair.

    Args:
        arrays: how many parameters each of the two optimizers has.
        repeats: pairs; which of the two steps comes first alternates.
    """
    fixed, changed = _stepper(arrays, changes=False), _stepper(arrays, changes=True)
    for _ in range(_WARM_UPS):
        fixed()
        changed()
    samples: tuple[list[float], list[float]] = ([], [])
    for index in range(repeats):
        for which in (0, 1) if index % 2 else (1, 0):
            samples[which].append((fixed, changed)[which]())
    return samples


def _stepper(arrays: int, changes: bool) -> Callable[[], float]:
    optimizer = optim.SGD([jnp.ones(_SHAPE) for _ in range(arrays)], lr=_RATE, momentum=0.9)
    group = optimizer.param_groups[0]
    for parameter in group["params"]:
        parameter.grad = jnp.full(_SHAPE, 1e-6)

    def step() -> float:
        start = time.perf_counter()
        if changes:
            group["lr"] *= 1 - 1e-6
        optimizer.step()
        duration = time.perf_counter() - start
        jax.block_until_ready([parameter.data for parameter in group["params"]])
        return duration

    return step


def _microseconds(samples: Sequence[float]) -> str:
    return f"{1e6 * statistics.median(samples):.0f} us"


if __name__ == "__main__":
    main()
