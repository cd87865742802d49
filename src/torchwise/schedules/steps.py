"""Rates that fall at some steps and stay between them."""

from typing import Any

from torchwise.numbers import Scalar
from torchwise.schedules.arithmetic import choose, power
from torchwise.schedules.schedule import Formula, as_schedule


class Step(Formula):
    """base * gamma ** (count // step_size), as `torch.optim.lr_scheduler.StepLR`.

    Args:
        base: the first value, in the hyperparameter's unit.
        step_size: how many steps a value stays.
        gamma: the factor from one value to the next.

    Source: the formula on torch's StepLR page.

    Examples:
        >>> import torchwise
        >>> schedule = torchwise.schedules.step(1.0, step_size=10, gamma=0.5)
        >>> schedule(9), schedule(10), schedule(20)
        (1.0, 0.5, 0.25)
    """

    step_size: Scalar
    gamma: Scalar = 0.1

    def at(self, base: Any, count: Any) -> Any:
        return base * power(self.gamma, count // self.step_size)

    def advance(self, value: Any, base: Any, count: Any, first: bool) -> Any:
        if count == 0 or count % self.step_size != 0:
            return value
        return value * self.gamma


class MultiStep(Formula):
    """base * gamma ** (how many milestones are behind), as torch's `MultiStepLR`.

    Args:
        base: the first value, in the hyperparameter's unit.
        milestones: the counts from which on there is one factor more; one that is there twice
            counts twice.
        gamma: the factor.

    Source: the formula on torch's MultiStepLR page.

    Examples:
        >>> import torchwise
        >>> schedule = torchwise.schedules.multi_step(1.0, milestones=[10, 30], gamma=0.5)
        >>> schedule(9), schedule(10), schedule(30)
        (1.0, 0.5, 0.25)
    """

    milestones: Any  # numbers, in any order
    gamma: Scalar = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))

    def at(self, base: Any, count: Any) -> Any:
        behind: Any = 0.0
        for milestone in self.milestones:
            behind = behind + choose(count >= milestone, lambda: 1.0, lambda: 0.0)
        return base * power(self.gamma, behind)

    def advance(self, value: Any, base: Any, count: Any, first: bool) -> Any:
        times = self.milestones.count(count)
        return value * self.gamma**times if times else value


step = as_schedule(Step, "step")
multi_step = as_schedule(MultiStep, "multi_step")
