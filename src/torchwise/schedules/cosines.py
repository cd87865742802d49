"""Rates on a cosine: one that rises again, and one that starts again."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from torchwise.numbers import Scalar, is_array, refuse
from torchwise.schedules.arithmetic import Double, choose, cos, plain
from torchwise.schedules.schedule import Formula, as_schedule


class CosineAnnealing(Formula):
    """eta_min + (base - eta_min) * (1 + cos(pi * count / T_max)) / 2, as torch's.

    At `2 * T_max` it is at the base again: past `T_max` it rises, where optax's stays down.

    Args:
        base: the first value, in the hyperparameter's unit.
        T_max: the number of steps down to `eta_min`.
        eta_min: the lowest value, in the unit of the base.

    Source: torch's CosineAnnealingLR page; Loshchilov and Hutter, arXiv:1608.03983.

    Examples:
        >>> import torchwise
        >>> schedule = torchwise.schedules.cosine_annealing(1.0, T_max=100)
        >>> schedule(0), schedule(50), schedule(100), schedule(200)
        (1.0, 0.5, 0.0, 1.0)
    """

    T_max: Scalar
    eta_min: Scalar = 0.0

    @property
    def multiplies(self) -> bool:
        return not is_array(self.eta_min) and bool(self.eta_min == 0)

    def at(self, base: Any, count: Any) -> Any:
        wave = 1 + cos(math.pi * count / self.T_max)
        return self.eta_min + (base - self.eta_min) * wave / 2

    def advance(self, value: Any, base: Any, count: Any, first: bool) -> Any:
        if first:
            return value
        if self.rises_from_rest(count):
            rest = 1 - math.cos(math.pi / self.T_max)
            return value + (base - self.eta_min) * rest / 2
        old = 1 + math.cos(math.pi * (count - 1) / self.T_max)
        new = 1 + math.cos(math.pi * count / self.T_max)
        return new / old * (value - self.eta_min) + self.eta_min

    def rises_from_rest(self, count: Any) -> bool:
        """Whether the value before was the lowest, from which no factor leads up."""
        return (count - 1 - self.T_max) % (2 * self.T_max) == 0


class CosineAnnealingWarmRestarts(Formula):
    """A cosine down to `eta_min` that starts again, as torch's.

    Where torch's `step(epoch)` misplaces restarts by a rounded logarithm (T_mult of 3 or 10), this
    goes where torch goes step by step.

    Args:
        base: the value at every start, in the hyperparameter's unit.
        T_0: the number of steps up to the first restart.
        T_mult: the factor from one period to the next.
        eta_min: the value that is approached, in the unit of the base.

    Raises:
        ValueError: as torch does, unless `T_0` and `T_mult` are positive integers.

    Source: torch's page; Loshchilov and Hutter, arXiv:1608.03983.

    Examples:
        >>> import torchwise
        >>> schedule = torchwise.schedules.cosine_annealing_warm_restarts(1.0, T_0=2, T_mult=2)
        >>> [schedule(count) for count in (0, 1, 2, 4, 6)]
        [1.0, 0.5, 1.0, 0.5, 1.0]
    """

    T_0: Scalar
    T_mult: Scalar = 1
    eta_min: Scalar = 0.0

    @property
    def multiplies(self) -> bool:
        return False

    def check(self) -> None:
        message = f"Expected positive integer T_0, but got {self.T_0}"
        refuse(self.T_0 <= 0, message)
        refuse(not is_array(self.T_0) and not isinstance(self.T_0, int), message)
        message = f"Expected integer T_mult >= 1, but got {self.T_mult}"
        refuse(self.T_mult < 1, message)
        refuse(not is_array(self.T_mult) and not isinstance(self.T_mult, int), message)
        kind = is_array(self.eta_min) or isinstance(self.eta_min, int | float)
        shown = f"{self.eta_min} of type {type(self.eta_min)}"
        refuse(not kind, f"Expected float or int eta_min, but got {shown}")

    def at(self, base: Any, count: Any) -> Any:
        position, period = self._place(count)
        return CosineAnnealing(period, self.eta_min).at(base, position)

    def _place(self, count: Any) -> tuple[Any, Any]:
        """Return how far the count is in its period, and how long that is."""
        # Equal periods need no search, which would take as many rounds as there were restarts.
        start = choose(self.T_mult == 1, lambda: count % self.T_0, lambda: count)
        if not any(isinstance(one, Double) for one in (start, self.T_0, self.T_mult)):
            period = self.T_0
            while start >= period:
                start, period = start - period, period * self.T_mult
            return start, period
        begin = jnp.broadcast_arrays(
            *(jnp.asarray(plain(one), jnp.float64) for one in (start, self.T_0))
        )

        def inside(state: Any) -> jax.Array:
            return jnp.any(state[0] >= state[1])

        def next_period(state: Any) -> Any:
            position, period = state
            done = position < period
            longer = period * plain(self.T_mult)
            return jnp.where(done, position, position - period), jnp.where(done, period, longer)

        position, period = lax.while_loop(inside, next_period, tuple(begin))
        return Double(position), Double(period)


cosine_annealing = as_schedule(CosineAnnealing, "cosine_annealing")
cosine_annealing_warm_restarts = as_schedule(
    CosineAnnealingWarmRestarts, "cosine_annealing_warm_restarts"
)
