"""Schedules made of schedules."""

import itertools
from collections.abc import Sequence
from typing import Any

from torchwise.numbers import Scalar, refuse
from torchwise.schedules.arithmetic import choose, largest
from torchwise.schedules.schedule import Schedule, float_


class Sequential(Schedule):
    """One schedule after another; see `sequential`."""

    schedules: Any
    milestones: Any

    def at(self, base: Any, count: Any) -> Any:
        starts = (0.0, *self.milestones)

        def member(index: int) -> Any:
            here = self.schedules[index]
            if index == len(self.milestones):
                return here.at(base, largest(count - starts[index], 0))
            return choose(
                count < self.milestones[index],
                lambda: here.at(base, largest(count - starts[index], 0)),
                lambda: member(index + 1),
            )

        return member(0)

    @property
    def multiplies(self) -> bool:
        return False


class Chained(Schedule):
    """The product of several schedules; see `chained`."""

    schedules: Any

    def at(self, base: Any, count: Any) -> Any:
        for schedule in self.schedules:
            base = schedule.at(base, count)
        return base


class Every(Schedule):
    """A schedule whose count rises by one every so many steps; see `every`."""

    steps: Any
    schedule: Any
    start: Any = 0.0

    def at(self, base: Any, count: Any) -> Any:
        return self.schedule.at(base, self.start + count // self.steps)

    @property
    def multiplies(self) -> bool:
        return self.schedule.multiplies


def sequential(schedules: Sequence[Schedule], milestones: Sequence[Scalar]) -> Schedule:
    """One schedule after another, each from its own beginning, as torch's `SequentialLR`.

    Args:
        schedules: what this package returns; each has its own base. Containers may be among them.
        milestones: the counts at which the next one begins; one fewer, and increasing.

    Raises:
        TypeError: for a member that is no schedule.
        ValueError: as torch does, for no schedule and for another number of milestones; and for
            milestones that do not increase.

    Source: torch's SequentialLR page.

    Examples:
        >>> from torchwise import schedules
        >>> warm_up = schedules.linear(1.0, start_factor=0.25, total_iters=3)
        >>> down = schedules.cosine_annealing(1.0, T_max=10)
        >>> schedule = schedules.sequential([warm_up, down], milestones=[3])
        >>> schedule(0), schedule(3), schedule(8), schedule(13)
        (0.25, 1.0, 0.5, 0.0)
    """
    members = _members("sequential", schedules)
    message = f"sequential() needs one milestone fewer than its {len(members)} schedules, but got "
    refuse(len(milestones) != len(members) - 1, f"{message}{len(milestones)}")
    for early, late in itertools.pairwise(milestones):
        refuse(early > late, f"sequential() needs milestones that increase, but got {milestones}")
    return Sequential(members, tuple(map(float_, milestones)))


def chained(schedules: Sequence[Schedule]) -> Schedule:
    """The first schedule's base times the factors of all of them, as torch's `ChainedScheduler`.

    Each member's own factor is as it is alone, at every count. torch multiplies step by step,
    which is the same but for rounding, with one exception: where a `CosineAnnealingLR` has come
    down to zero, the factors of the others are lost.

    Args:
        schedules: those that multiply their base by a factor: `step`, `multi_step`, `constant`,
            `linear`, `exponential`, `polynomial`, `multiplicative`, `cosine_annealing` with
            `eta_min=0`, and `every` of them.

    Raises:
        TypeError: for a member that is no schedule.
        ValueError: for no schedule, and for one that starts from its base at every step: torch
            lets it overwrite what those before it have done.

    Source: torch's ChainedScheduler page.

    Examples:
        >>> from torchwise import schedules
        >>> warm_up = schedules.constant(1.0, factor=0.5, total_iters=2)
        >>> schedule = schedules.chained([warm_up, schedules.exponential(1.0, gamma=0.5)])
        >>> schedule(0), schedule(1), schedule(2)
        (0.5, 0.25, 0.25)
    """
    members = _members("chained", schedules)
    for position, schedule in enumerate(members):
        refuse(
            not schedule.multiplies,
            f"chained() takes schedules that multiply their base by a factor, but the one at index "
            f"{position} is {schedule!r}",
        )
    return Chained(members)


def every(steps: Scalar, schedule: Schedule, start: Scalar = 0) -> Schedule:
    """A schedule of epochs as one of steps.

    Args:
        steps: how many steps an epoch has.
        schedule: its counts are epochs.
        start: the epoch at the first step, when a run is resumed with a new count of steps.

    Raises:
        TypeError: if `schedule` is none.
        ValueError: for no steps.

    Examples:
        >>> from torchwise import schedules
        >>> schedule = schedules.every(100, schedules.exponential(1.0, gamma=0.5))
        >>> schedule(99), schedule(100)
        (1.0, 0.5)
        >>> schedules.every(100, schedules.exponential(1.0, gamma=0.5), start=3)(0)
        0.125
    """
    (member,) = _members("every", [schedule])
    refuse(steps <= 0, f"every() needs a positive number of steps, but got {steps}")
    return Every(float_(steps), member, float_(start))


def _members(call: str, schedules: Sequence[Schedule]) -> tuple[Schedule, ...]:
    refuse(not schedules, f"{call}() expects at least one schedule, but got none.")
    for position, schedule in enumerate(schedules):
        if not isinstance(schedule, Schedule):
            raise TypeError(
                f"{call}() takes schedules of torchwise.schedules, but the one at index {position} "
                f"is {type(schedule).__name__}; lambda_(1.0, function) makes one of a function"
            )
    return tuple(schedules)
