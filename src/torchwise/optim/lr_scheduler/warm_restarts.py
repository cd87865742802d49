"""The cosine that starts again keeps its place, which may be a fraction of an epoch."""

import math
from typing import Any

from torchwise.optim.lr_scheduler.group_values import operand, refuse_late_groups
from torchwise.optim.lr_scheduler.scheduler import FormulaScheduler, undone
from torchwise.optim.optimizer import Optimizer
from torchwise.schedules.cosines import CosineAnnealing
from torchwise.schedules.cosines import CosineAnnealingWarmRestarts as WarmRestarts


class CosineAnnealingWarmRestarts(FormulaScheduler):
    """`torchwise.schedules.cosine_annealing_warm_restarts` as a scheduler, as torch's.

    Args:
        optimizer: see `LRScheduler`.
        T_0: the number of epochs up to the first restart.
        T_mult: the factor from one period to the next.
        eta_min: the rate that is approached.
        last_epoch: see `LRScheduler`.

    Raises:
        ValueError: as torch does, unless `T_0` and `T_mult` are positive integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=1.0)
        >>> scheduler = optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    formula = WarmRestarts

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,  # noqa: N803 (torch's names)
        T_mult: int = 1,  # noqa: N803
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        WarmRestarts(T_0, T_mult, eta_min).check()
        self.T_0 = T_0
        self.T_i: Any = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.T_cur: Any = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        """Return the lr of each group at `T_cur` of `T_i` epochs."""
        self._warn_unless_within_step()
        refuse_late_groups(self, self.base_lrs)
        rule = CosineAnnealing(self.T_i, self.eta_min)
        return [rule.at(operand(base), self.T_cur) for base in self.base_lrs]

    def step(self, epoch: Any = None) -> None:
        """Go on by one epoch, or to one.

        Args:
            epoch: where to go; fractions are batches within an epoch.

        Raises:
            ValueError: for an epoch below zero.
        """
        if epoch is not None and epoch < 0:
            raise ValueError(f"Expected non-negative epoch, but got {epoch}")
        with undone(self, last_epoch=self.last_epoch, T_cur=self.T_cur, T_i=self.T_i):
            if epoch is None and self.last_epoch >= 0:
                epoch = self.last_epoch + 1
                self.T_cur = self.T_cur + 1
                if self.T_cur >= self.T_i:
                    self.T_cur, self.T_i = self.T_cur % self.T_i, self.T_i * self.T_mult
            else:
                epoch = epoch or 0
                self._go_to(epoch)
            self.last_epoch = math.floor(epoch)
            self._write(self.get_lr)

    def _go_to(self, epoch: Any) -> None:
        if epoch < self.T_0:
            self.T_i, self.T_cur = self.T_0, epoch
        elif self.T_mult == 1:
            self.T_cur = epoch % self.T_0
        else:
            periods = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
            # The logarithm is rounded: torch is one period off at some restarts, and lr is eta_min.
            if self._begin_of(periods + 1) <= epoch:
                periods += 1
            self.T_cur = epoch - self._begin_of(periods)
            self.T_i = self.T_0 * self.T_mult**periods

    def _begin_of(self, periods: int) -> float:
        """Return the epoch after so many whole periods; a float, as torch's `T_cur` is here."""
        return self.T_0 * (self.T_mult**periods - 1) / (self.T_mult - 1)
