"""A rate that falls where a metric no longer improves."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from torchwise.fields import Fields
from torchwise.numbers import Scalar, refuse
from torchwise.schedules.arithmetic import choose, iterate, largest, plain, traced
from torchwise.schedules.schedule import float_


class Plateau(Fields):
    """The mathematics of torch's `ReduceLROnPlateau`, for one parameter group.

    Attributes: see `reduce_on_plateau`.
    """

    mode: str = "min"
    factor: Scalar = 0.1
    patience: Scalar = 10
    threshold: Scalar = 1e-4
    threshold_mode: str = "rel"
    cooldown: Scalar = 0
    min_lr: Scalar = 0
    eps: Scalar = 1e-8

    def check(self) -> None:
        """Raise what torch raises for invalid arguments."""
        self.check_factor()
        check_modes(self.mode, self.threshold_mode)

    def check_factor(self) -> None:
        """Raise torch's error for a factor that reduces nothing."""
        refuse(self.factor >= 1.0, "Factor should be < 1.0.")

    def is_better(self, metric: Any, best: Any) -> Any:
        """Return whether a metric is better than the best one by more than the threshold."""
        if self.mode == "min":
            if self.threshold_mode == "rel":
                return metric < best * (1.0 - self.threshold)
            return metric < best - self.threshold
        if self.threshold_mode == "rel":
            return metric > best * (self.threshold + 1.0)
        return metric > best + self.threshold

    def counted(self, metric: Any, best: Any, cooling: Any, bad: Any) -> tuple[Any, Any, Any, Any]:
        """Return the best metric, what is left of the cooldown, bad epochs, and whether to reduce.

        Args:
            metric: of this epoch.
            best: so far.
            cooling: how many epochs of the cooldown are left.
            bad: how many epochs in a row were not better.
        """
        better = self.is_better(metric, best)
        best = choose(better, lambda: metric, lambda: best)
        bad = choose(better, lambda: 0, lambda: bad + 1)
        cools = cooling > 0
        left = choose(cools, lambda: cooling - 1, lambda: cooling)
        waited = choose(cools, lambda: 0, lambda: bad)
        reduces = waited > self.patience
        left = choose(reduces, lambda: self.cooldown, lambda: left)
        return best, left, choose(reduces, lambda: 0, lambda: waited), reduces

    def reduced(self, value: Any) -> Any:
        """Return a rate after one reduction; a change of `eps` or less is none."""
        new = largest(value * self.factor, self.min_lr)
        return choose(value - new > self.eps, lambda: new, lambda: value)


def check_modes(mode: str, threshold_mode: str) -> None:
    """Raise torch's errors for modes that there are not."""
    refuse(mode not in ("min", "max"), f"mode {mode} is unknown!")
    known = threshold_mode in ("rel", "abs")
    refuse(not known, f"threshold mode {threshold_mode} is unknown!")


class PlateauState(NamedTuple):
    """What a run on a plateau remembers: 0-d arrays.

    Attributes:
        best: the best metric so far.
        cooldown_counter: how many epochs of the cooldown are left (int32).
        num_bad_epochs: how many epochs in a row were not better (int32).
        reductions: how often the rate was reduced (int32). From this it is computed in double
            precision, which a rate in float32 would lose.
    """

    best: jax.Array
    cooldown_counter: jax.Array
    num_bad_epochs: jax.Array
    reductions: jax.Array


class ReduceOnPlateau(Fields):
    """A rate that falls on plateaus; see `reduce_on_plateau`."""

    base: Any
    plateau: Any

    def init(self) -> PlateauState:
        """Return the state before the first metric."""
        worst = math.inf if self.plateau.mode == "min" else -math.inf
        zero = jnp.zeros((), jnp.int32)
        return PlateauState(jnp.asarray(worst, jnp.result_type(float)), zero, zero, zero)

    def update(self, state: PlateauState, metric: Any) -> PlateauState:
        """Return the state after an epoch with a metric; pure, also in a compiled program.

        Args:
            state: the one before.
            metric: a number or a 0-d array. NaN is never better.
        """
        metric = jnp.asarray(metric).astype(state.best.dtype).reshape(())
        with jax.enable_x64(True):
            rule = jax.tree.map(traced, self.plateau)
            best, cooling, bad, reduces = rule.counted(traced(metric), *map(traced, state[:3]))
            return PlateauState(
                plain(best).astype(state.best.dtype),
                plain(cooling).astype(jnp.int32),
                plain(bad).astype(jnp.int32),
                state.reductions + reduces.astype(jnp.int32),
            )

    def value(self, state: PlateauState) -> jax.Array:
        """Return the rate after these epochs, 0-d."""
        with jax.enable_x64(True):
            rule, base = jax.tree.map(traced, (self.plateau, self.base))
            result = iterate(lambda value, _: rule.reduced(value), base, traced(state.reductions))
            value = plain(result)
        return jnp.asarray(value, jnp.result_type(float))


def reduce_on_plateau(
    base: Scalar,
    mode: str = "min",
    factor: Scalar = 0.1,
    patience: Scalar = 10,
    threshold: Scalar = 1e-4,
    threshold_mode: str = "rel",
    cooldown: Scalar = 0,
    min_lr: Scalar = 0,
    eps: Scalar = 1e-8,
) -> ReduceOnPlateau:
    """A rate that is reduced where a metric has stopped improving, as torch's `ReduceLROnPlateau`.

    It follows a metric and no count, so it is no schedule: `init()` returns a state,
    `update(state, metric)` the next one, and `value(state)` the rate, a number to make the
    transform with. All three may be part of a compiled program.

    Args:
        base: the first value, in the hyperparameter's unit.
        mode: "min" for a metric that should fall, "max" for one that should rise.
        factor: of a reduction, below 1.
        patience: how many epochs that are not better are borne; the next one reduces.
        threshold: by how much a metric has to be better.
        threshold_mode: "rel": as a part of the best one; "abs": in the metric's unit.
        cooldown: after a reduction, how many epochs are not counted.
        min_lr: the lowest value, in the unit of the base.
        eps: a reduction by this or less is left out, in the unit of the base.

    Raises:
        ValueError: as torch does, for a factor of 1 or more and for unknown modes.

    Source: torch's ReduceLROnPlateau page.

    Examples:
        >>> import torchwise
        >>> plateau = torchwise.schedules.reduce_on_plateau(1.0, factor=0.5, patience=1)
        >>> state = plateau.init()
        >>> for loss in (3.0, 3.0, 3.0):
        ...     state = plateau.update(state, loss)
        >>> plateau.value(state)
        Array(0.5, dtype=float32)
    """
    numbers = map(float_, (patience, threshold, cooldown, min_lr, eps))
    patience, threshold, cooldown, min_lr, eps = numbers
    rule = Plateau(mode, float_(factor), patience, threshold, threshold_mode, cooldown, min_lr, eps)
    rule.check()
    return ReduceOnPlateau(float_(base), rule)
