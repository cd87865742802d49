"""Schedulers made of schedulers."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from torchwise.optim.lr_scheduler.group_values import values_of, write
from torchwise.optim.lr_scheduler.plateau import ReduceLROnPlateau
from torchwise.optim.lr_scheduler.scheduler import LRScheduler, undone
from torchwise.optim.optimizer import Optimizer
from torchwise.schedules.containers import chained, sequential
from torchwise.schedules.schedule import Schedule


class _Container(LRScheduler):
    """A scheduler that steps others; it has no rates of its own."""

    _schedulers: list[Any]

    def _check(self, optimizer: Any, schedulers: Sequence[Any]) -> None:
        """Raise what torch raises for members that do not fit."""
        name = type(self).__name__
        for index, scheduler in enumerate(schedulers):
            if not hasattr(scheduler, "optimizer"):
                raise TypeError(
                    f"{name} at index {index} should have `optimizer` as its attribute."
                )
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError(
                    f"{name} does not support `ReduceLROnPlateau` scheduler as it requires "
                    "additional kwargs to be specified when calling `step`, but got one at index "
                    f"{index} in the given schedulers sequence."
                )
            if optimizer != scheduler.optimizer:
                raise ValueError(
                    f"{name} expects all schedulers to belong to the same optimizer, but got "
                    f"scheduler {type(scheduler).__name__} at index {index} has "
                    f"{scheduler.optimizer}, which is different from {type(optimizer).__name__}."
                )

    def go_to(self, epoch: int | None = None) -> None:
        raise NotImplementedError(
            f"a {type(self).__name__} cannot begin at a milestone of a SequentialLR, here as in "
            "torch: give the outer one the members of the inner one"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return torch's dict, with those of the members under "_schedulers"."""
        state_dict = super().state_dict()
        del state_dict["_schedulers"]
        members = [scheduler.state_dict() for scheduler in self._schedulers]
        return {**state_dict, "_schedulers": members}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a dict; the members get theirs by position.

        Raises:
            ValueError: for another number of members; nothing has changed then.
        """
        saved = state_dict["_schedulers"]
        if len(saved) != len(self._schedulers):
            raise ValueError(
                f"load_state_dict() changed nothing: {type(self).__name__} has "
                f"{len(self._schedulers)} schedulers, but the dict {len(saved)}"
            )
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "_schedulers"})
        for scheduler, one in zip(self._schedulers, saved):
            scheduler.load_state_dict(one)


class SequentialLR(_Container):
    """One scheduler after another, as `torchwise.schedules.sequential`, with torch's signature.

    Args:
        optimizer: see `LRScheduler`.
        schedulers: in their order, made for the same optimizer.
        milestones: the epochs at which the next one begins, one fewer.
        last_epoch: the epoch before the first one; as in torch, it does not place the members.

    Raises:
        TypeError, ValueError: as torch does, for members that do not fit.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=1.0)
        >>> warm_up = optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
        >>> down = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        >>> scheduler = optim.lr_scheduler.SequentialLR(optimizer, [warm_up, down], [2])
        >>> for epoch in range(3):
        ...     optimizer.step()
        ...     scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: list[LRScheduler],
        milestones: list[int],
        last_epoch: int = -1,
    ) -> None:
        if len(schedulers) < 1:
            raise ValueError(
                f"{type(self).__name__} expects at least one scheduler, but got no scheduler."
            )
        self._check(optimizer, schedulers)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                "Sequential Schedulers expects number of schedulers provided to be one more than "
                f"the number of milestone points, but got number of schedulers {len(schedulers)} "
                f"and the number of milestones to be equal to {len(milestones)}"
            )
        self._schedulers = schedulers
        self._milestones = milestones
        self.last_epoch = last_epoch + 1
        self.optimizer = optimizer
        for group in optimizer.param_groups:  # the members' constructors have written theirs
            write(group, "lr", group["initial_lr"])
        self.recursive_undo()
        first = schedulers[bisect_right(milestones, 0)]
        first.begin()
        self._last_lr = first.get_last_lr()

    def recursive_undo(self, sched: Any = None) -> None:
        """Take back the first step of the members that are no containers."""
        for member in (self if sched is None else sched)._schedulers:
            if hasattr(member, "_schedulers"):
                self.recursive_undo(member)
            elif hasattr(member, "last_epoch"):
                member.last_epoch -= 1

    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Go on to the next epoch, in the scheduler whose turn it is."""
        with undone(self, last_epoch=self.last_epoch):
            self.last_epoch += 1
            turn = bisect_right(self._milestones, self.last_epoch)
            scheduler = self._schedulers[turn]
            if turn > 0 and self._milestones[turn - 1] == self.last_epoch:
                scheduler.go_to(0)
            else:
                scheduler.step()
        self._last_lr = scheduler.get_last_lr()

    def schedule_of(self, group: int, key: str) -> Schedule:
        members = [scheduler.schedule_of(group, key) for scheduler in self._schedulers]
        return sequential(members, self._milestones)

    def present(self, group: int, key: str) -> float:
        turn = bisect_right(self._milestones, self.last_epoch)
        return self._schedulers[turn].present(group, key)


class ChainedScheduler(_Container):
    """Schedulers that all multiply the rate, as `torchwise.schedules.chained`, as torch's.

    Args:
        schedulers: stepped in their order.
        optimizer: theirs; not needed.

    Raises:
        TypeError, ValueError: as torch does, for members that do not fit.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=1.0)
        >>> warm_up = optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2)
        >>> down = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        >>> scheduler = optim.lr_scheduler.ChainedScheduler([warm_up, down])
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.25]
    """

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        if len(schedulers) < 1:
            raise ValueError(
                f"{type(self).__name__} expects at least one scheduler to be chained, but got no "
                "scheduler."
            )
        optimizer = optimizer or schedulers[0].optimizer
        self._check(optimizer, schedulers)
        self._schedulers = schedulers  # pyright: ignore[reportAttributeAccessIssue]
        self.optimizer = optimizer
        self._last_lr = values_of(self.optimizer, "lr")

    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Step all of them, in their order."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = values_of(self.optimizer, "lr")

    def present_epoch(self) -> Any:
        return self._schedulers[0].present_epoch()  # the members count in step

    def schedule_of(self, group: int, key: str) -> Schedule:
        return chained([scheduler.schedule_of(group, key) for scheduler in self._schedulers])
