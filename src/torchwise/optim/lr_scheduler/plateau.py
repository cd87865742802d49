"""The scheduler that follows a metric."""

import math
import warnings
from collections.abc import Mapping
from typing import Any, SupportsFloat

from torchwise.fields import fields_of
from torchwise.optim.lr_scheduler.group_values import operand, values_of, write
from torchwise.optim.lr_scheduler.order import EPOCH_DEPRECATION_WARNING
from torchwise.optim.lr_scheduler.scheduler import LRScheduler, check_optimizer
from torchwise.optim.optimizer import Optimizer
from torchwise.schedules.plateau import Plateau, check_modes
from torchwise.schedules.schedule import Schedule


class ReduceLROnPlateau(LRScheduler):
    """`torchwise.schedules.reduce_on_plateau` as a scheduler, with torch's signature.

    Args:
        optimizer: see `LRScheduler`.
        mode: "min" for a metric that should fall, "max" for one that should rise.
        factor: of a reduction, below 1.
        patience: how many epochs that are not better are borne; the next one reduces.
        threshold: by how much a metric has to be better.
        threshold_mode: "rel": as a part of the best one; "abs": in the metric's unit.
        cooldown: after a reduction, how many epochs are not counted.
        min_lr: the lowest rate; one, or one for each group.
        eps: a reduction by this or less is left out.

    Raises:
        TypeError, ValueError: as torch does.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=1.0)
        >>> scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        >>> for loss in (3.0, 3.0):
        ...     scheduler.step(loss)
        >>> scheduler.get_last_lr()
        [0.5]
    """

    factor: float
    default_min_lr: Any
    min_lrs: list[Any]
    best: float
    cooldown_counter: int
    num_bad_epochs: int

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        rule = Plateau(mode, factor, patience, threshold, threshold_mode, cooldown, 0, eps)
        rule.check_factor()
        check_optimizer(optimizer)
        count = len(optimizer.param_groups)
        each = isinstance(min_lr, list | tuple)
        if each and len(min_lr) != count:
            raise ValueError(f"expected {count} min_lrs, got {len(min_lr)}")
        check_modes(mode, threshold_mode)
        self.factor = factor
        self.optimizer = optimizer
        self.default_min_lr = None if each else min_lr
        self.min_lrs = list(min_lr) if each else [min_lr] * count
        self.patience = patience
        self.cooldown = cooldown
        self.eps = eps
        self.last_epoch = 0
        self._last_lr = values_of(optimizer, "lr")
        self.mode_worse = math.inf if mode == "min" else -math.inf
        self.mode = mode
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self._reset()

    def _reset(self) -> None:
        self.best = self.mode_worse
        self.cooldown_counter = 0
        self.num_bad_epochs = 0

    @property
    def in_cooldown(self) -> bool:
        """Whether epochs are not counted now."""
        return self.cooldown_counter > 0

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, metrics: SupportsFloat, epoch: int | None = None
    ) -> None:
        """Take note of an epoch's metric, and reduce the rates if it is time.

        Args:
            metrics: a number, or an array of one element. NaN is never better.
            epoch: deprecated, as in torch.

        Raises:
            RuntimeError: as torch does, if a group was added and `min_lr` was given for each;
                nothing has changed then.
        """
        metric = float(metrics)
        if epoch is not None:
            warnings.warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
        place = (self.best, self.cooldown_counter, self.num_bad_epochs)
        best, cooling, bad, reduces = self._rule(0).counted(metric, *place)
        if reduces:
            self._reduce_lr()
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self.best, self.cooldown_counter, self.num_bad_epochs = best, cooling, bad
        self._last_lr = values_of(self.optimizer, "lr")

    def _rule(self, min_lr: Any) -> Plateau:
        names = (field.name for field in fields_of(Plateau))
        own = {name: getattr(self, name) for name in names if name != "min_lr"}
        return Plateau(**own, min_lr=min_lr)

    def _reduce_lr(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            if self.default_min_lr is None:
                raise RuntimeError(
                    f"The number of param groups in the `optimizer` ({len(groups)}) differs from "
                    f"when `ReduceLROnPlateau` was initialized ({len(self.min_lrs)}), usually due "
                    "to a new param group being added to the optimizer. Please modify the "
                    "`min_lrs` field to match the length of the `optimizer` param groups."
                )
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, min_lr in zip(groups, self.min_lrs):
            old = float(operand(group["lr"]))
            new = self._rule(min_lr).reduced(old)
            if new is not old:
                write(group, "lr", new)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the attributes of a dict that `state_dict` or torch made."""
        super().load_state_dict(state_dict)
        check_modes(self.mode, self.threshold_mode)
        self.mode_worse = math.inf if self.mode == "min" else -math.inf

    def schedule_of(self, group: int, key: str) -> Schedule:
        raise NotImplementedError(
            "ReduceLROnPlateau follows a metric, and no schedule of the count does: make "
            "torchwise.schedules.reduce_on_plateau with the present lr as base"
        )
