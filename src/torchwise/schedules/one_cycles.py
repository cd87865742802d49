"""The 1cycle policy: up, down, and far down."""

import math
from collections.abc import Sequence
from typing import Any

from torchwise.numbers import Scalar, is_array, refuse
from torchwise.schedules.arithmetic import choose, cos, least
from torchwise.schedules.schedule import Formula, as_schedule

STRATEGIES = ("cos", "linear")


def annealed(count: Any, ends: Sequence[Any], pairs: Sequence[Any], strategy: str) -> Any:
    """Return the value at a count of a row of phases.

    Args:
        count: how many steps there have been.
        ends: the count at the end of each phase; the last one has all that is left.
        pairs: the values at the start and at the end of each phase.
        strategy: "cos" or "linear".
    """

    def phase(index: int, begin: Any) -> Any:
        end = ends[index]

        def here() -> Any:
            first, last = pairs[index]
            part = (count - begin) / (end - begin)
            if strategy == "cos":
                return last + (first - last) / 2.0 * (cos(math.pi * part) + 1)
            return (last - first) * part + first

        if index == len(ends) - 1:
            return here()
        return choose(count <= end, here, lambda: phase(index + 1, end))

    return phase(0, 0.0)


def phase_ends(total_steps: Any, pct_start: Any, three_phase: bool) -> list[Any]:
    """Return the counts at which phases end, as torch computes them."""
    rise = pct_start * total_steps - 1
    return [rise, *([2 * pct_start * total_steps - 2] if three_phase else []), total_steps - 1]


def check_policy(total_steps: Any, pct_start: Any, strategy: str) -> None:
    """Raise torch's errors for a length, a part or a strategy that there is not."""
    whole = is_array(total_steps) or isinstance(total_steps, int)
    message = f"Expected positive integer total_steps, but got {total_steps}"
    refuse(total_steps <= 0, message)
    refuse(not whole, message)
    check_shape(pct_start, strategy)


def check_shape(pct_start: Any, strategy: str) -> None:
    """Raise torch's errors for a part or a strategy that there is not."""
    message = f"Expected float between 0 and 1 pct_start, but got {pct_start}"
    refuse(pct_start < 0, message)
    refuse(pct_start > 1, message)
    refuse(not is_array(pct_start) and not isinstance(pct_start, float), message)
    check_strategy(strategy)


def check_strategy(strategy: str) -> None:
    """Raise torch's error for a way to anneal that there is not."""
    known = f"anneal_strategy must be one of 'cos' or 'linear', instead got {strategy}"
    refuse(strategy not in STRATEGIES, known)


class OneCycle(Formula):
    """Up from `base / div_factor` to `base`, and far down, as torch's `OneCycleLR`.

    After the last step, which has count `total_steps - 1`, it stays where it is. torch's goes up
    again for one more step, or below zero where it is linear, and then raises.

    Args:
        base: the largest value, torch's `max_lr`.
        total_steps: the number of steps.
        pct_start: the part of the steps that rises.
        anneal_strategy: "cos" or "linear".
        div_factor: what divides `base` for the first value.
        final_div_factor: what divides the first value for the last.
        three_phase: come down to the first value at the pace of the rise, and only then further.

    Raises:
        ValueError: as torch does, for what cannot be.

    Source: torch's OneCycleLR page; Smith and Topin, arXiv:1708.07120.

    Examples:
        >>> import torchwise
        >>> schedule = torchwise.schedules.one_cycle(
        ...     1.0, total_steps=21, pct_start=0.25, anneal_strategy="linear", div_factor=4.0
        ... )
        >>> schedule(0), round(schedule(4), 3), round(schedule(20), 6)
        (0.25, 0.956, 2.5e-05)
    """

    scales = False
    total_steps: Scalar
    pct_start: Scalar = 0.3
    anneal_strategy: str = "cos"
    div_factor: Scalar = 25.0
    final_div_factor: Scalar = 1e4
    three_phase: bool = False

    def check(self) -> None:
        check_policy(self.total_steps, self.pct_start, self.anneal_strategy)

    def at(self, base: Any, count: Any) -> Any:
        ends = phase_ends(self.total_steps, self.pct_start, self.three_phase)
        initial = base / self.div_factor
        lowest = initial / self.final_div_factor
        pairs = [(initial, base), (base, lowest)]
        if self.three_phase:
            pairs = [(initial, base), (base, initial), (initial, lowest)]
        return annealed(least(count, self.total_steps - 1), ends, pairs, self.anneal_strategy)


class OneCycleMomentum(Formula):
    """The momentum of the 1cycle policy: down while the rate goes up, and back.

    Args:
        base: the largest value, torch's `max_momentum`.
        total_steps: see `one_cycle`.
        pct_start: see `one_cycle`.
        anneal_strategy: see `one_cycle`.
        base_momentum: the lowest value, where the rate is largest.
        three_phase: see `one_cycle`.

    Raises:
        ValueError: as torch does, for what cannot be.

    Source: torch's OneCycleLR page.

    Examples:
        >>> import torchwise
        >>> schedule = torchwise.schedules.one_cycle_momentum(
        ...     0.95, total_steps=21, pct_start=0.25, anneal_strategy="linear", base_momentum=0.85
        ... )
        >>> schedule(0), round(schedule(4), 3), round(schedule(20), 6)
        (0.95, 0.856, 0.95)
    """

    scales = False
    total_steps: Scalar
    pct_start: Scalar = 0.3
    anneal_strategy: str = "cos"
    base_momentum: Scalar = 0.85
    three_phase: bool = False

    def check(self) -> None:
        check_policy(self.total_steps, self.pct_start, self.anneal_strategy)

    def at(self, base: Any, count: Any) -> Any:
        ends = phase_ends(self.total_steps, self.pct_start, self.three_phase)
        pairs = [(base, self.base_momentum), (self.base_momentum, base)]
        if self.three_phase:
            pairs.append((base, base))
        return annealed(least(count, self.total_steps - 1), ends, pairs, self.anneal_strategy)


class Phases(Formula):
    """A row of phases with values of their own; what a running `OneCycleLR` hands over.

    Attributes:
        ends: see `annealed`.
        pairs: see `annealed`.
        strategy: see `annealed`.
    """

    scales = False
    ends: Any
    pairs: Any
    strategy: str

    def at(self, base: Any, count: Any) -> Any:
        return annealed(least(count, self.ends[-1]), self.ends, self.pairs, self.strategy)


one_cycle = as_schedule(OneCycle, "one_cycle")
one_cycle_momentum = as_schedule(OneCycleMomentum, "one_cycle_momentum")
