"""The schedulers that cycle lr and momentum against each other."""

from collections.abc import Callable, Mapping
from typing import Any

from torchwise.optim.lr_scheduler.group_values import (
    copied,
    has_momentum,
    momentum_of,
    one_each,
    operand,
    refuse_late_groups,
    write,
    write_momentum,
)
from torchwise.optim.lr_scheduler.own_functions import saved_function
from torchwise.optim.lr_scheduler.scheduler import LRScheduler, check_optimizer
from torchwise.optim.optimizer import Optimizer
from torchwise.schedules.cycles import Cyclic, check_mode
from torchwise.schedules.one_cycles import Phases, annealed, check_policy, phase_ends
from torchwise.schedules.schedule import Based, Schedule, float_


class _Cycling(LRScheduler):
    """A scheduler that may cycle momentum, too.

    Attributes:
        cycle_momentum: whether it does.
        use_beta1: whether momentum is the first of the betas; only with `cycle_momentum`.
    """

    cycle_momentum: bool
    use_beta1: bool

    def _begin_momentum(self, highest: list[Any], lowest: list[Any], fresh: bool) -> None:
        """Write what torch writes into the groups before the first step."""
        groups = self.optimizer.param_groups if fresh else []
        for group, most, least in zip(groups, highest, lowest):
            write_momentum(group, self.use_beta1, most)
            group["max_momentum"] = most
            group["base_momentum"] = least

    def present(self, group: int, key: str) -> float:
        if key == "momentum" and self.cycle_momentum:
            found = self.optimizer.param_groups[group]
            return float(operand(momentum_of(found, self.use_beta1)))
        return super().present(group, key)


class CyclicLR(_Cycling):
    """`torchwise.schedules.cyclic` as a scheduler of lr and momentum, with torch's signature.

    Args:
        optimizer: see `LRScheduler`.
        base_lr: the lowest rate; one, or one for each group.
        max_lr: the highest rate; one, or one for each group.
        step_size_up: the number of steps up.
        step_size_down: the number of steps down; None means as many.
        mode: "triangular", "triangular2" or "exp_range".
        gamma: of "exp_range".
        scale_fn: in place of the mode, a function of the cycle or of the step to a factor.
        scale_mode: "cycle" or "iterations": what `scale_fn` gets.
        cycle_momentum: whether momentum (or the first beta) goes down where the rate goes up.
        base_momentum: the lowest momentum; one, or one for each group.
        max_momentum: the highest momentum; one, or one for each group.
        last_epoch: see `LRScheduler`.

    Raises:
        ValueError: as torch does; the optimizer is then as it was before.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=1.0, momentum=0.9)
        >>> scheduler = optim.lr_scheduler.CyclicLR(optimizer, 1.0, 2.0, step_size_up=2)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr(), round(optimizer.param_groups[0]["momentum"], 3)
        ([1.5], 0.85)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[int], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer(optimizer)
        self.optimizer = optimizer
        base_lrs = one_each("base_lr", optimizer, base_lr)
        self.max_lrs = one_each("max_lr", optimizer, max_lr)
        up = float(step_size_up)
        self.total_size = up + (up if step_size_down is None else float(step_size_down))
        self.step_ratio = up / self.total_size
        check_mode(mode, scale_fn)
        self.mode = mode
        self.gamma = gamma
        self._scale_fn_custom = scale_fn
        self.scale_mode = scale_mode
        self._choose_scale_mode()
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.use_beta1 = has_momentum(optimizer)
            self.base_momentums = one_each("base_momentum", optimizer, base_momentum)
            self.max_momentums = one_each("max_momentum", optimizer, max_momentum)
            self._begin_momentum(self.max_momentums, self.base_momentums, last_epoch == -1)
        for group, lr in zip(optimizer.param_groups if last_epoch == -1 else [], base_lrs):
            write(group, "lr", lr)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def _choose_scale_mode(self) -> None:
        if self._scale_fn_custom is None:
            self.scale_mode = "iterations" if self.mode == "exp_range" else "cycle"

    def scale_fn(self, x: float) -> float:
        """Return the factor of the height, in a cycle or at a step, whatever the mode counts."""
        return self._formula(0.0).scale(x, x)

    def _formula(self, peak: Any) -> Cyclic:
        place = (self.total_size, self.step_ratio)
        scale = (self.mode, self.gamma, self._scale_fn_custom, self.scale_mode)
        return Cyclic(peak, *place, *scale)

    def get_lr(self) -> list[Any]:
        """Return the lr of each group at `last_epoch`, and write its momentum."""
        self._warn_unless_within_step()
        refuse_late_groups(self, self.base_lrs)
        rates = [
            self._formula(operand(peak)).at(operand(base), self.last_epoch)
            for base, peak in zip(self.base_lrs, self.max_lrs)
        ]
        if self.cycle_momentum:
            ends = zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums)
            for group, lowest, highest in ends:  # the lr's formula, with the ends exchanged
                value = self._formula(lowest).at(highest, self.last_epoch)
                write_momentum(group, self.use_beta1, value)
        return rates

    def state_dict(self) -> dict[str, Any]:
        """Return torch's dict; of functions it has nothing, of callable objects the attributes."""
        state_dict = super().state_dict()
        function = state_dict.pop("_scale_fn_custom")
        saved = None if function is None else saved_function(function)
        return {**state_dict, "_scale_fn_custom": saved}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a dict; attributes of a callable object go into the present one."""
        saved = state_dict["_scale_fn_custom"]
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "_scale_fn_custom"})
        if saved is not None:
            kept = {key: copied(value) for key, value in saved.items()}
            vars(self._scale_fn_custom).update(kept)
        self._choose_scale_mode()

    def schedule_of(self, group: int, key: str) -> Schedule:
        ends = self.base_lrs[group], self.max_lrs[group]
        if key == "momentum":
            ends = self.max_momentums[group], self.base_momentums[group]
        start, peak = (float(operand(end)) for end in ends)
        return Based(start, self._formula(peak).replaced(gamma=float_(self.gamma)))


class OneCycleLR(_Cycling):
    """`torchwise.schedules.one_cycle` as a scheduler of lr and momentum, with torch's signature.

    Args:
        optimizer: see `LRScheduler`.
        max_lr: the highest rate; one, or one for each group.
        total_steps: the number of steps; or:
        epochs: the number of epochs, with
        steps_per_epoch: the number of steps in each.
        pct_start: the part of the steps that rises; a float.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: whether momentum (or the first beta) goes down where the rate goes up.
        base_momentum: the lowest momentum; one, or one for each group.
        max_momentum: the highest momentum; one, or one for each group.
        div_factor: what divides `max_lr` for the first rate.
        final_div_factor: what divides the first rate for the last.
        three_phase: come down to the first rate at the pace of the rise, and only then further.
        last_epoch: see `LRScheduler`.

    Raises:
        ValueError: as torch does, also for more steps than there are; nothing has changed then.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import optim
        >>> optimizer = optim.SGD({"w": jnp.ones(2)}, lr=1.0, momentum=0.9)
        >>> scheduler = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=20)
        >>> for step in range(5):
        ...     optimizer.step()
        ...     scheduler.step()
        >>> scheduler.get_last_lr(), round(optimizer.param_groups[0]["momentum"], 3)
        ([1.0], 0.85)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer(optimizer)
        self.optimizer = optimizer
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        check_policy(self.total_steps, pct_start, anneal_strategy)
        ends = phase_ends(self.total_steps, pct_start, three_phase)
        self._schedule_phases: list[dict[str, Any]] = [
            dict(zip(_PHASE, (end, *keys)))
            for end, keys in zip(ends, _THREE_PHASES if three_phase else _TWO_PHASES)
        ]
        self._anneal_func_type = anneal_strategy
        peaks = one_each("max_lr", optimizer, max_lr)
        self.cycle_momentum = cycle_momentum
        highest: list[Any] = []
        lowest: list[Any] = []
        if cycle_momentum:
            self.use_beta1 = has_momentum(optimizer)
            highest = one_each("max_momentum", optimizer, max_momentum)
            lowest = one_each("base_momentum", optimizer, base_momentum)
        for group, peak in zip(optimizer.param_groups if last_epoch == -1 else [], peaks):
            group["initial_lr"] = peak / div_factor
            group["max_lr"] = peak
            group["min_lr"] = group["initial_lr"] / final_div_factor
        if cycle_momentum:
            self._begin_momentum(highest, lowest, last_epoch == -1)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        """Return the lr of each group at `last_epoch`, and write its momentum."""
        self._warn_unless_within_step()
        if self.last_epoch > self.total_steps:
            raise ValueError(
                f"Tried to step {self.last_epoch} times. The specified number of total steps is "
                f"{self.total_steps}"
            )
        groups = self.optimizer.param_groups
        refuse_late_groups(self, [group for group in groups if "initial_lr" in group])
        rates = [self._value(group, "lr") for group in groups]
        for group in groups if self.cycle_momentum else []:
            write_momentum(group, self.use_beta1, self._value(group, "momentum"))
        return rates

    def _value(self, group: Mapping[str, Any], key: str) -> Any:
        return annealed(self.last_epoch, *self._phases(group, key), self._anneal_func_type)

    def _phases(self, group: Mapping[str, Any], key: str) -> tuple[list[Any], list[Any]]:
        """Return where phases end, and their values at both ends, which the group has."""
        ends = [phase["end_step"] for phase in self._schedule_phases]
        pairs = [
            tuple(operand(group[phase[f"{place}_{key}"]]) for place in ("start", "end"))
            for phase in self._schedule_phases
        ]
        return ends, pairs

    def schedule_of(self, group: int, key: str) -> Schedule:
        ends, pairs = self._phases(self.optimizer.param_groups[group], key)
        ends, pairs = tuple(map(float, ends)), tuple(tuple(map(float, pair)) for pair in pairs)
        return Based(pairs[0][0], Phases(ends, pairs, self._anneal_func_type))


_PHASE = ("end_step", "start_lr", "end_lr", "start_momentum", "end_momentum")
_TWO_PHASES = (
    ("initial_lr", "max_lr", "max_momentum", "base_momentum"),
    ("max_lr", "min_lr", "base_momentum", "max_momentum"),
)
_THREE_PHASES = (
    ("initial_lr", "max_lr", "max_momentum", "base_momentum"),
    ("max_lr", "initial_lr", "base_momentum", "max_momentum"),
    ("initial_lr", "min_lr", "max_momentum", "max_momentum"),
)


def _total_steps(total_steps: Any, epochs: Any, steps_per_epoch: Any) -> Any:
    """Return the number of steps, or raise what torch raises for epochs and steps in each."""
    if total_steps is not None:
        return total_steps
    if epochs is None or steps_per_epoch is None:
        raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
    for name, value in (("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
        if not isinstance(value, int) or value <= 0:
            raise ValueError(f"Expected positive integer {name}, but got {value}")
    return epochs * steps_per_epoch
