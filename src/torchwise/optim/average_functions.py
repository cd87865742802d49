"""How averages of models take in a value: the functions of `torch.optim.swa_utils`."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from torchwise.averages import EMA, SWA, WeightedSum, check_decay
from torchwise.numbers import Scalar, number
from torchwise.optim.averaging import Function
from torchwise.rounding import lerp, pinned


def get_ema_avg_fn(decay: Scalar = 0.999) -> Function:
    """Return `decay * average + (1 - decay) * value` as a function for `AveragedModel`.

    Args:
        decay: from 0 to 1.

    Raises:
        ValueError: as torch does, for a decay outside of [0, 1].

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise.optim import swa_utils
        >>> swa_utils.get_ema_avg_fn(0.75)(jnp.array([4.0]), jnp.array([8.0]), 1)
        Array([5.], dtype=float32)
    """
    check_decay(decay)
    return Formula(WeightedSum(float(number(decay))).advance)


def get_ema_multi_avg_fn(decay: Scalar = 0.999) -> Function:
    """Return the interpolation from averages towards values as a function for `AveragedModel`.

    Args:
        decay: from 0 to 1.

    Raises:
        ValueError: as torch does, for a decay outside of [0, 1].

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise.optim import swa_utils
        >>> swa_utils.get_ema_multi_avg_fn(0.75)([jnp.array([4.0])], [jnp.array([8.0])], 1)
        [Array([5.], dtype=float32)]
    """
    check_decay(decay)
    return Formula(EMA(float(number(decay))).advance)


def get_swa_avg_fn() -> Function:
    """Return the mean, `average + (value - average) / (n + 1)`, as a function for `AveragedModel`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise.optim import swa_utils
        >>> swa_utils.get_swa_avg_fn()(jnp.array([4.0]), jnp.array([8.0]), 1)
        Array([6.], dtype=float32)
    """
    return Formula(SWA().advance)


def get_swa_multi_avg_fn() -> Function:
    """Return the mean as an interpolation, as a function for `AveragedModel`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise.optim import swa_utils
        >>> swa_utils.get_swa_multi_avg_fn()([jnp.array([4.0])], [jnp.array([8.0])], 1)
        [Array([6.], dtype=float32)]
    """
    return Formula(_interpolated_mean)


@dataclasses.dataclass(frozen=True)
class Formula:
    """A formula for one array, compiled, for an array or a list of them; it cannot fail."""

    advance: Function

    def __call__(self, average: Any, value: Any, n: Any) -> Any:
        """Return the next averages."""
        return _evaluated(self.advance, average, value, n)


@dataclasses.dataclass(frozen=True)
class Each:
    """A function for one array as one for lists; equal for the same, which is compiled once."""

    function: Function

    def __call__(self, averages: Sequence[Any], values: Sequence[Any], n: Any) -> list[Any]:
        """Return the next averages."""
        return [self.function(average, value, n) for average, value in zip(averages, values)]


@functools.partial(jax.jit, static_argnums=0)
def _evaluated(advance: Function, average: Any, value: Any, n: Any) -> Any:
    return jax.tree.map(lambda old, new: advance(old, new, n), average, value)


def _interpolated_mean(average: jax.Array, value: jax.Array, n: Any) -> jax.Array:
    """`average.lerp(value, 1 / (n + 1))`; torch's weight is a float32 tensor for every type."""
    below = pinned(jnp.asarray(n + 1).astype(jnp.float32))
    return lerp(average, value, pinned(jnp.ones_like(below) / below))
