"""torch's LRScheduler: it counts epochs and writes learning rates; formulas do the arithmetic."""

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import jax

from torchwise.fields import fields_of
from torchwise.optim.lr_scheduler.group_values import (
    copied,
    operand,
    refuse_late_groups,
    values_of,
    write,
)
from torchwise.optim.lr_scheduler.order import EPOCH_DEPRECATION_WARNING, complaint, watch
from torchwise.optim.optimizer import Optimizer
from torchwise.schedules.schedule import Based, Formula, Schedule, float_


class LRScheduler:
    """The base of the schedulers, and of one's own, as `torch.optim.lr_scheduler.LRScheduler`.

    A subclass defines `get_lr`, which returns one value for each group, and may define
    `_get_closed_form_lr`. Both may use `last_epoch`, `base_lrs` and `optimizer`.

    Args:
        optimizer: any of `torchwise.optim`; the scheduler writes the `lr` of its groups.
        last_epoch: the epoch before the first one. With -1 each group's lr becomes its
            `initial_lr`, unless it has one.

    Attributes:
        optimizer: the optimizer.
        base_lrs: the `initial_lr` of each group.
        last_epoch: the present epoch; 0 when the scheduler has been made.

    Raises:
        TypeError: if `optimizer` is not an `Optimizer`.
        KeyError: if `last_epoch` is given and a group has no `initial_lr`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> class Halving(optim.lr_scheduler.LRScheduler):
        ...     def get_lr(self):
        ...         return [base * 0.5**self.last_epoch for base in self.base_lrs]
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=1.0)
        >>> scheduler = Halving(optimizer)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    optimizer: Any
    _is_initial: bool = False
    _get_lr_called_within_step: bool = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        check_optimizer(optimizer)
        self.optimizer = optimizer
        for index, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", copied(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{index}] when resuming "
                    "scheduler with last_epoch >= 0.\nThis typically happens when:\n1. You're "
                    "trying to resume training from a checkpoint but haven't properly loaded the "
                    "optimizer state\n2. You're using last_epoch >= 0 for a fresh training run "
                    "(not recommended)"
                )
        self.base_lrs: list[Any] = values_of(optimizer, "initial_lr")
        self.last_epoch: Any = last_epoch
        watch(optimizer)
        self.begin()

    def begin(self) -> None:
        """Take the first step, to epoch `last_epoch + 1`."""
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_last_lr(self) -> list[Any]:
        """Return the lr of each group, as the scheduler left it."""
        return self._last_lr

    def get_lr(self) -> list[Any]:
        """Return the lr of each group at `last_epoch`, from the one before."""
        raise NotImplementedError(f"{type(self).__name__}.get_lr()")

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next epoch and write its learning rates.

        Args:
            epoch: deprecated, as in torch: the epoch to go to, by the closed form if there is one.

        Raises:
            ValueError: for another number of rates than groups; nothing has changed then.
        """
        message = complaint(self.optimizer) if self._step_count == 1 else None
        if message:
            warnings.warn(message, UserWarning, stacklevel=2)
        if epoch is not None:
            warnings.warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
        self._step_count += 1
        with undone(self, _step_count=self._step_count - 1):
            self.go_to(epoch)

    def go_to(self, epoch: int | None = None) -> None:
        """Go to an epoch, by the closed form if there is one; with None to the next epoch."""
        with undone(self, last_epoch=self.last_epoch):
            self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
            closed_form = None if epoch is None else getattr(self, "_get_closed_form_lr", None)
            self._write(self.get_lr if closed_form is None else closed_form)

    def _write(self, rates: Any) -> None:
        """Compute the rates of all groups, and then write them."""
        self._get_lr_called_within_step = True
        try:
            values = rates()
        finally:
            self._get_lr_called_within_step = False
        refuse_late_groups(self, values)
        for group, value in zip(self.optimizer.param_groups, values):
            write(group, "lr", value)
        self._last_lr: list[Any] = values_of(self.optimizer, "lr")

    def _warn_unless_within_step(self) -> None:
        if not self._get_lr_called_within_step:
            message = (
                "To get the last learning rate computed by the scheduler, please use "
                "`get_last_lr()`."
            )
            warnings.warn(message, UserWarning, stacklevel=3)

    def state_dict(self) -> dict[str, Any]:
        """Return torch's dict: all attributes but the optimizer. Containers are copies."""
        return {key: copied(value) for key, value in vars(self).items() if key != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the attributes of a dict that `state_dict` or torch made.

        As in torch, the groups' lr is not written: it comes with the optimizer's own dict.
        """
        vars(self).update({key: copied(value) for key, value in state_dict.items()})

    def to_schedule(self, group: int = 0, key: str = "lr") -> Schedule:
        """Return the pure schedule that continues this scheduler.

        Its counts are the scheduler's epochs: at `last_epoch` it has the present value. If an epoch
        has many steps, or the pure count begins anew, use `torchwise.schedules.every`.

        Args:
            group: the position of the parameter group.
            key: "lr", or "momentum" for a scheduler that cycles it; that may be the first beta.

        Raises:
            ValueError: for another key, and if the present value is not the one of the schedule,
                as after a change by hand.
            NotImplementedError: for a scheduler without a closed form.
        """
        schedule = self.schedule_of(group, key)
        epoch = self.present_epoch()
        present, expected = self.present(group, key), schedule(epoch)
        if not math.isclose(present, expected, rel_tol=1e-6, abs_tol=1e-12):
            raise ValueError(
                f"to_schedule(): {key} of group {group} is {present}, but at epoch {epoch} "
                f"{type(self).__name__} has {expected}: it was changed by hand, loaded, or "
                "written by another scheduler. Make the schedule with a function of "
                "torchwise.schedules"
            )
        return schedule

    def present_epoch(self) -> Any:
        """Return the present count, for the schedule of `to_schedule`."""
        return self.last_epoch

    def present(self, group: int, key: str) -> float:
        """Return what a group has now of what `to_schedule` describes."""
        if key != "lr":
            raise ValueError(f"{type(self).__name__} has no schedule of {key!r}, but of 'lr'")
        return float(operand(self.optimizer.param_groups[group]["lr"]))

    def schedule_of(self, group: int, key: str) -> Schedule:
        """Return what `to_schedule` does, without the check."""
        raise NotImplementedError(
            f"{type(self).__name__} has no closed form that to_schedule() could return; any "
            "function of the count is a schedule, too"
        )


class FormulaScheduler(LRScheduler):
    """A scheduler whose arithmetic is a formula of `torchwise.schedules`.

    Attributes:
        formula: its fields are attributes of the scheduler, and may be changed between steps.
    """

    formula: ClassVar[Any]

    def _begin(self, optimizer: Optimizer, last_epoch: int, **arguments: Any) -> None:
        """Check the arguments, keep them, and do what the base does."""
        self.formula(**arguments).check()
        vars(self).update(arguments)
        super().__init__(optimizer, last_epoch)

    def _formula(self, group: int) -> Formula:
        names = (field.name for field in fields_of(self.formula))
        return self.formula(**{name: getattr(self, name) for name in names})

    def get_lr(self) -> list[Any]:
        """Return the lr of each group at `last_epoch`, from the one before."""
        self._warn_unless_within_step()
        return [self._advanced(index) for index in range(len(self.optimizer.param_groups))]

    def _advanced(self, index: int) -> Any:
        """Return the next lr of a group. One that was added later has no base."""
        value = operand(self.optimizer.param_groups[index]["lr"])
        base = operand(self.base_lrs[index]) if index < len(self.base_lrs) else None
        return self._formula(index).advance(value, base, self.last_epoch, self._is_initial)

    def schedule_of(self, group: int, key: str) -> Schedule:
        """Return what `to_schedule` does, without the check."""
        base = float(operand(self.base_lrs[group]))
        return Based(base, jax.tree.map(float_, self._formula(group)))


class ClosedFormScheduler(FormulaScheduler):
    """A scheduler that has a recursion, and a closed form for `step(epoch)`."""

    def _get_closed_form_lr(self) -> list[Any]:
        bases = enumerate(map(operand, self.base_lrs))
        return [self._formula(index).at(base, self.last_epoch) for index, base in bases]


def check_optimizer(optimizer: Any) -> None:
    """Raise torch's TypeError for what is not an `Optimizer`."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")


@contextlib.contextmanager
def undone(owner: Any, **attributes: Any) -> Iterator[None]:
    """Set these attributes again if the block raises."""
    try:
        yield
    except BaseException:
        vars(owner).update(attributes)
        raise
