"""The memory's speed, and how much of it a call needs at its peak."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from timing import Run

_PROCESS = Path("/proc/self")


def copying(elements: int) -> tuple[dict[str, Run], int]:
    """Return runs that only read and write one float32 array, and the bytes that each moves.

    They go through memory as a step does: in place, on as many threads.
    """
    runs: dict[str, Run] = {"jax": _copying_in_jax(elements)}
    try:
        import torch
    except ImportError:
        pass
    else:
        runs["torch"] = _copying_in_torch(torch, elements)
    return runs, 2 * 4 * elements


def _copying_in_jax(elements: int) -> Run:
    held = [jnp.ones(elements, jnp.float32)]
    program = jax.jit(lambda x: x + 1, donate_argnums=0).lower(held[0]).compile()

    def run() -> None:
        held[0] = program(held[0])
        held[0].block_until_ready()

    return run


def _copying_in_torch(torch, elements: int) -> Run:
    on_gpu = jax.default_backend() == "gpu"
    array = torch.ones(elements, device="cuda" if on_gpu else "cpu")

    def run() -> None:
        array.add_(1)
        if on_gpu:
            torch.cuda.synchronize()

    return run


def peak_growth(run: Callable[[], object]) -> int | None:
    """Return by how many bytes the process grows at the peak of a call; None if not on Linux."""
    try:
        (_PROCESS / "clear_refs").write_text("5")  # forget the old peak
        before = _status("VmRSS")
        run()
        return max(0, _status("VmHWM") - before)
    except OSError:
        return None


def available() -> int | None:
    """Return how many bytes of memory are free to be used; None if not on Linux."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _status(key: str) -> int:
    lines = (_PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
