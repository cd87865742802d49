"""A stateful step with one group, and with a group for each parameter, in turn in one process."""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import timing
from torchwise import optim

_ARRAYS, _SHAPE = 199, (16, 16)
_WARM_UPS = 5
_ALIKE, _EACH = "alike", "each with its rate"


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each optimizer and kind of groups."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arrays", type=int, help=f"parameters (default: {_ARRAYS}; 4 if quick)")
    parser.add_argument("--repeats", type=int, help="rounds (default: 200; 3 if quick)")
    parser.add_argument("--quick", action="store_true", help="few and small, to see that it runs")
    arguments = parser.parse_args(argv)
    arrays = arguments.arrays or (4 if arguments.quick else _ARRAYS)
    repeats = arguments.repeats or (3 if arguments.quick else 200)
    for name in ("SGD", "AdamW"):
        firsts, samples = measured(name, arrays, repeats)
        one = samples["one group"]
        for kind, found in samples.items():
            print(
                f"{name:>5}, {arrays} arrays, {kind}: {1e3 * statistics.median(found):.2f} ms "
                f"(least {1e3 * min(found):.2f}), {timing.ratio(one, found):.2f} times one group; "
                f"first step {firsts[kind]:.2f} s"
            )


def measured(
    name: str, arrays: int, repeats: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Return the seconds of the first step, and of the steps of each round, by kind of groups."""
    kinds: dict[str, Any] = {
        "one group": None,
        f"{arrays} groups, {_ALIKE}": [{"match": key} for key in _params(arrays)],
        f"{arrays} groups, {_EACH}": [
            {"match": key, "lr": 1e-3 * 0.99**index} for index, key in enumerate(_params(arrays))
        ],
    }
    steppers, firsts = {}, {}
    for kind, groups in kinds.items():
        jax.clear_caches()  # or programs would be those of the kind before
        steppers[kind] = _stepper(name, arrays, groups)
        firsts[kind] = steppers[kind]()
    samples: dict[str, list[float]] = {kind: [] for kind in kinds}
    for index in range(repeats + _WARM_UPS):
        for kind, step in steppers.items():
            seconds = step()
            if index >= _WARM_UPS:
                samples[kind].append(seconds)
    return firsts, samples


def _params(arrays: int) -> dict[str, jax.Array]:
    return {f"layer{index}": jnp.ones(_SHAPE) for index in range(arrays)}


def _stepper(name: str, arrays: int, groups: Any) -> Callable[[], float]:
    optimizer = getattr(optim, name)(_params(arrays), lr=1e-3, groups=groups)
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    for parameter in parameters:
        parameter.grad = jnp.full(_SHAPE, 1e-6)

    def step() -> float:
        start = time.perf_counter()
        optimizer.step()
        jax.block_until_ready([parameter.own_array for parameter in parameters])
        return time.perf_counter() - start

    return step


if __name__ == "__main__":
    main()
