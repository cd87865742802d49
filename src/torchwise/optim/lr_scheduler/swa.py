"""The scheduler of stochastic weight averaging, torch's `torch.optim.swa_utils.SWALR`."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from torchwise.numbers import is_array
from torchwise.optim.lr_scheduler.group_values import (
    one_each,
    operand,
    refuse_late_groups,
    unwritten,
)
from torchwise.optim.lr_scheduler.scheduler import FormulaScheduler
from torchwise.optim.optimizer import Optimizer
from torchwise.schedules import every
from torchwise.schedules.one_cycles import check_strategy
from torchwise.schedules.schedule import Based, Schedule
from torchwise.schedules.swa import PROGRESS, SWA, check_annealing


class SWALR(FormulaScheduler):
    """`torchwise.schedules.swa` as a scheduler, with torch's signature.

    It starts from the rates that the groups have at its first `step()`, which another scheduler may
    have written, and goes to their `swa_lr`. As in torch it counts its own steps: made anew with
    `last_epoch`, it begins anew.

    Args:
        optimizer: see `LRScheduler`; each group gets `swa_lr`.
        swa_lr: the last rate; one, or one for each group.
        anneal_epochs: the number of epochs up to it; with 0 it is there at once.
        anneal_strategy: "cos" or "linear".
        last_epoch: see `LRScheduler`.

    Raises:
        ValueError: as torch does; the optimizer is then as it was before. Also at a step after a
            group without `swa_lr` was added.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=1.0)
        >>> scheduler = optim.swa_utils.SWALR(optimizer, swa_lr=0.5, anneal_epochs=2)
        >>> for epoch in range(3):
        ...     print(scheduler.get_last_lr())
        ...     optimizer.step()
        ...     scheduler.step()
        [1.0]
        [0.75]
        [0.5]
    """

    formula = SWA
    anneal_epochs: Any
    _anneal_strategy: str

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        rates = one_each("swa_lr", optimizer, swa_lr)
        check_annealing(anneal_epochs, anneal_strategy, isinstance(anneal_epochs, int))
        self._anneal_strategy = anneal_strategy
        self.anneal_epochs = anneal_epochs
        with unwritten(optimizer):
            for group, rate in zip(optimizer.param_groups, rates):
                group["swa_lr"] = rate
            super().__init__(optimizer, last_epoch)

    @property
    def anneal_func(self) -> Callable[[float], float]:
        """From the part of the epochs that is over to the part of the way."""
        return PROGRESS[self._anneal_strategy]

    def get_lr(self) -> list[Any]:
        """Return the lr of each group at the scheduler's step, from the one before."""
        self._warn_unless_within_step()
        groups = self.optimizer.param_groups
        refuse_late_groups(self, [group for group in groups if "swa_lr" in group])
        return [self._advanced(index) for index in range(len(groups))]

    def _advanced(self, index: int) -> Any:
        group = self.optimizer.param_groups[index]
        formula, value = self._formula(index), operand(group["lr"])
        value = formula.advance(value, None, self._step_count - 1, self._is_initial)
        return np.asarray(value) if is_array(group["swa_lr"]) else value

    def _formula(self, group: int) -> SWA:
        last = operand(self.optimizer.param_groups[group]["swa_lr"])
        return SWA(last, self.anneal_epochs, self._anneal_strategy)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the attributes of a dict that `state_dict` or torch made.

        Raises:
            ValueError: for a strategy that there is not; nothing has changed then.
        """
        check_strategy(state_dict.get("_anneal_strategy", self._anneal_strategy))
        # Earlier versions of torch saved the function, too, and 2.13.0 passes over it.
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "anneal_func"})

    def schedule_of(self, group: int, key: str) -> Schedule:
        if self.last_epoch < 0:
            raise NotImplementedError(
                "SWALR starts from the rate that it finds when its turn comes, which is not yet: "
                "make torchwise.schedules.swa with that rate as base"
            )
        formula = self._formula(group)
        last, epochs = float(formula.swa_lr), float(formula.anneal_epochs)
        formula = formula.replaced(swa_lr=last, anneal_epochs=epochs)
        count = self._step_count - 1
        base, written = (float(operand(rates[group])) for rates in (self.base_lrs, self._last_lr))
        # It did not start from `initial_lr` if another scheduler had stepped before.
        if not math.isclose(formula.at(base, count), written, rel_tol=1e-12):
            base = formula.start(written, count)
        return every(1, Based(base, formula), start=count - self.last_epoch)
