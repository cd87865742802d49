"""The schedulers that multiply the present rate: each is its formula behind torch's signature."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from torchwise.optim.lr_scheduler.group_values import refuse_late_groups
from torchwise.optim.lr_scheduler.scheduler import ClosedFormScheduler
from torchwise.optim.optimizer import Optimizer
from torchwise.schedules import cosines, factors, steps
from torchwise.schedules.schedule import Formula


class StepLR(ClosedFormScheduler):
    """`torchwise.schedules.step` as a scheduler, with torch's signature.

    Args:
        optimizer: see `LRScheduler`.
        step_size: how many epochs a rate stays.
        gamma: the factor from one rate to the next.
        last_epoch: see `LRScheduler`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=1.0)
        >>> scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
        >>> for epoch in range(4):
        ...     optimizer.step()
        ...     scheduler.step()
        >>> scheduler.get_last_lr()
        [0.25]
    """

    formula = steps.Step

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self._begin(optimizer, last_epoch, step_size=step_size, gamma=gamma)


class MultiStepLR(ClosedFormScheduler):
    """`torchwise.schedules.multi_step` as a scheduler, with torch's signature.

    Args:
        optimizer: see `LRScheduler`.
        milestones: the epochs from which on there is one factor more.
        gamma: the factor.
        last_epoch: see `LRScheduler`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=1.0)
        >>> scheduler = optim.lr_scheduler.MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5)
        >>> for epoch in range(4):
        ...     optimizer.step()
        ...     scheduler.step()
        >>> scheduler.get_last_lr()
        [0.25]
    """

    formula = steps.MultiStep
    milestones: Counter[int]
    gamma: float

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self._begin(optimizer, last_epoch, milestones=Counter(milestones), gamma=gamma)

    def _formula(self, group: int) -> Formula:
        return steps.MultiStep(sorted(Counter(self.milestones).elements()), self.gamma)


class ConstantLR(ClosedFormScheduler):
    """`torchwise.schedules.constant` as a scheduler, with torch's signature.

    Args:
        optimizer: see `LRScheduler`.
        factor: of the first epochs, from 0 to 1.
        total_iters: how many epochs have the factor.
        last_epoch: see `LRScheduler`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=1.0)
        >>> scheduler = optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2)
        >>> scheduler.get_last_lr()
        [0.5]
    """

    formula = factors.Constant

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self._begin(optimizer, last_epoch, factor=factor, total_iters=total_iters)


class LinearLR(ClosedFormScheduler):
    """`torchwise.schedules.linear` as a scheduler, with torch's signature.

    Args:
        optimizer: see `LRScheduler`.
        start_factor: at the first epoch, above 0 and at most 1.
        end_factor: from `total_iters` on, from 0 to 1.
        total_iters: how many epochs there are on the line.
        last_epoch: see `LRScheduler`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=1.0)
        >>> scheduler = optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
        >>> for epoch in range(2):
        ...     print(scheduler.get_last_lr())
        ...     optimizer.step()
        ...     scheduler.step()
        [0.5]
        [0.75]
    """

    formula = factors.Linear

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        arguments = {"start_factor": start_factor, "end_factor": end_factor}
        self._begin(optimizer, last_epoch, **arguments, total_iters=total_iters)


class ExponentialLR(ClosedFormScheduler):
    """`torchwise.schedules.exponential` as a scheduler, with torch's signature.

    Args:
        optimizer: see `LRScheduler`.
        gamma: the factor of every epoch.
        last_epoch: see `LRScheduler`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=1.0)
        >>> scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    formula = factors.Exponential

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self._begin(optimizer, last_epoch, gamma=gamma)


class PolynomialLR(ClosedFormScheduler):
    """`torchwise.schedules.polynomial` as a scheduler, with torch's signature.

    Args:
        optimizer: see `LRScheduler`.
        total_iters: from which epoch on the rate is 0.
        power: of the polynomial.
        last_epoch: see `LRScheduler`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=1.0)
        >>> scheduler = optim.lr_scheduler.PolynomialLR(optimizer, total_iters=4)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.75]
    """

    formula = factors.Polynomial

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        self._begin(optimizer, last_epoch, total_iters=total_iters, power=power)


class CosineAnnealingLR(ClosedFormScheduler):
    """`torchwise.schedules.cosine_annealing` as a scheduler, with torch's signature.

    Args:
        optimizer: see `LRScheduler`.
        T_max: the number of epochs down to `eta_min`.
        eta_min: the lowest rate.
        last_epoch: see `LRScheduler`.

    Raises:
        ValueError: at a step out of the minimum, if a group was added: its base is not known.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=1.0)
        >>> scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.0]
    """

    formula = cosines.CosineAnnealing
    T_max: Any
    eta_min: Any

    def __init__(
        self,
        optimizer: Optimizer,
        T_max: int,  # noqa: N803 (torch's name)
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self._begin(optimizer, last_epoch, T_max=T_max, eta_min=eta_min)

    def get_lr(self) -> list[Any]:
        """Return the lr of each group at `last_epoch`, from the one before."""
        resumed = self._step_count == 1 and self.last_epoch > 0
        if not self._is_initial and resumed:
            # torch's branch for `get_lr()` by hand after resuming, and for the step after loading.
            self._warn_unless_within_step()
            refuse_late_groups(self, self.base_lrs)
            return self._get_closed_form_lr()
        rule = cosines.CosineAnnealing(self.T_max, self.eta_min)
        if not self._is_initial and rule.rises_from_rest(self.last_epoch):
            refuse_late_groups(self, self.base_lrs)
        return super().get_lr()
