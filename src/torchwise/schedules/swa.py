"""The rate during stochastic weight averaging: it goes to a value and stays there."""

import math
from typing import Any

from torchwise.numbers import Scalar, is_array, refuse
from torchwise.schedules.arithmetic import choose, cos, largest, least
from torchwise.schedules.one_cycles import check_strategy
from torchwise.schedules.schedule import Formula, as_schedule


class SWA(Formula):
    """base + (swa_lr - base) * progress, then `swa_lr`, as torch's `SWALR`.

    torch starts from the rate that the group has at the first step; that is `base`.

    Args:
        base: the first value, in the hyperparameter's unit.
        swa_lr: the last value, in the unit of the base.
        anneal_epochs: the number of steps from one to the other; with 0 it is `swa_lr` always.
        anneal_strategy: "cos" or "linear": how the progress grows from 0 to 1.

    Raises:
        ValueError: as torch does, for another strategy, and for epochs that are no integer or
            below zero.

    Source: torch's SWALR page; Izmailov et al., arXiv:1803.05407.

    Examples:
        >>> import torchwise
        >>> schedule = torchwise.schedules.swa(1.0, swa_lr=0.5, anneal_epochs=4)
        >>> schedule(0), schedule(2), schedule(4), schedule(100)
        (1.0, 0.75, 0.5, 0.5)
    """

    scales = False
    swa_lr: Scalar
    anneal_epochs: Scalar = 10
    anneal_strategy: str = "cos"

    def check(self) -> None:
        epochs = self.anneal_epochs
        whole = is_array(epochs) or isinstance(epochs, int)
        check_annealing(epochs, self.anneal_strategy, whole)

    def at(self, base: Any, count: Any) -> Any:
        # Without epochs to anneal in, the first count is the end already.
        place = choose(self.anneal_epochs == 0, lambda: largest(1, count), lambda: count)
        alpha = self.progress(place)
        return self.swa_lr * alpha + base * (1 - alpha)

    def advance(self, value: Any, base: Any, count: Any, first: bool) -> Any:
        count = max(1, count) if self.anneal_epochs == 0 else count
        return self.at(self.start(value, count - 1), count)

    def start(self, value: Any, count: Any) -> Any:
        """Return the base from the value at a count, where the value still depends on it."""
        alpha = self.progress(count)
        return self.swa_lr if alpha == 1 else (value - alpha * self.swa_lr) / (1 - alpha)

    def progress(self, count: Any) -> Any:
        """Return how far it has come at a count, from 0 to 1."""
        part = largest(0, least(1, count / largest(1, self.anneal_epochs)))
        return PROGRESS[self.anneal_strategy](part)


def _cosine(part: Any) -> Any:
    return (1 - cos(math.pi * part)) / 2


def _linear(part: Any) -> Any:
    return part


PROGRESS = {"cos": _cosine, "linear": _linear}


def check_annealing(anneal_epochs: Any, strategy: str, whole: bool) -> None:
    """Raise torch's errors for a strategy or a number of epochs that there is not.

    Args:
        anneal_epochs: the number of epochs.
        strategy: "cos" or "linear".
        whole: whether the number is an integer.
    """
    check_strategy(strategy)
    message = f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}"
    refuse(not whole, message)
    refuse(anneal_epochs < 0, message)


swa = as_schedule(SWA, "swa")
