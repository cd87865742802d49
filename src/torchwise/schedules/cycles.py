"""Rates that go up and down in triangles, again and again."""

from typing import Any

from torchwise.numbers import Scalar
from torchwise.schedules.arithmetic import Double, choose, floor, power, traced, whole
from torchwise.schedules.schedule import Based, Formula, Schedule, float_, started

MODES = ("triangular", "triangular2", "exp_range")


class Cyclic(Formula):
    """base + (max_lr - base) * height * scale; see `cyclic`.

    Attributes:
        max_lr: the value at the peak.
        total_size: the number of steps of a cycle.
        step_ratio: the part of a cycle that rises.
        mode: how the scale falls, where there is no `scale_fn`.
        gamma: the base of its power for "exp_range".
        scale_fn: from the number of the cycle, from 1 on, or the count to a factor.
        scale_mode: "cycle" or "iterations": what `scale_fn` gets.
    """

    scales = False
    max_lr: Any
    total_size: Any
    step_ratio: Any
    mode: str = "triangular"
    gamma: Scalar = 1.0
    scale_fn: Any = None
    scale_mode: str = "cycle"

    def at(self, base: Any, count: Any) -> Any:
        cycle = floor(1 + count / self.total_size)
        x = 1.0 + count / self.total_size - cycle
        height = choose(
            x <= self.step_ratio,
            lambda: x / self.step_ratio,
            lambda: (x - 1) / (self.step_ratio - 1),
        )
        return base + (self.max_lr - base) * height * self.scale(cycle, count)

    def scale(self, cycle: Any, count: Any) -> Any:
        """Return the factor of the height in a cycle, at a count."""
        if self.scale_fn is not None:
            place = cycle if self.scale_mode == "cycle" else count
            found = self.scale_fn(whole(place))
            return traced(found) if isinstance(place, Double) else found
        if self.mode == "triangular":
            return 1.0
        return 1 / power(2.0, cycle - 1) if self.mode == "triangular2" else power(self.gamma, count)


def check_mode(mode: str, scale_fn: Any) -> None:
    """Raise torch's error for a mode that there is not."""
    if mode not in MODES and scale_fn is None:
        raise ValueError("mode is invalid and scale_fn is None")


def cyclic(
    base_lr: Scalar,
    max_lr: Scalar,
    step_size_up: int = 2000,
    step_size_down: int | None = None,
    mode: str = "triangular",
    gamma: Scalar = 1.0,
    scale_fn: Any = None,
    scale_mode: str = "cycle",
) -> Schedule:
    """Triangles between two values, as torch's `CyclicLR`.

    The momentum that torch cycles against the rate is the same with the ends exchanged:
    `cyclic(max_momentum, base_momentum, ...)`.

    Args:
        base_lr: the value at the start of a cycle.
        max_lr: the value at the peak, in the unit of `base_lr`.
        step_size_up: the number of steps up.
        step_size_down: the number of steps down; None means as many.
        mode: "triangular", "triangular2" (half the height in every cycle), or "exp_range" (the
            height times `gamma**count`).
        gamma: see `mode`.
        scale_fn: in place of the mode, a function of the number of the cycle, from 1 on, or of the
            count, to a factor of the height.
        scale_mode: "cycle" or "iterations": what `scale_fn` gets.

    Raises:
        ValueError: as torch does, for another mode.

    Source: torch's CyclicLR page; Smith, arXiv:1506.01186.

    Examples:
        >>> import torchwise
        >>> schedule = torchwise.schedules.cyclic(1.0, 2.0, step_size_up=4)
        >>> schedule(0), schedule(2), schedule(4), schedule(6), schedule(8)
        (1.0, 1.5, 2.0, 1.5, 1.0)
    """
    check_mode(mode, scale_fn)
    up = float_(step_size_up)
    total = up + (up if step_size_down is None else step_size_down)
    if scale_fn is None:
        scale_mode = "iterations" if mode == "exp_range" else "cycle"
    formula = Cyclic(float_(max_lr), total, up / total, mode, float_(gamma), scale_fn, scale_mode)
    return started(Based(float_(base_lr), formula), "cyclic")
