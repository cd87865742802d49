"""Averages of parameters over the steps of a run: stochastic weight averaging, moving averages."""

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from torchwise import trees
from torchwise.doubles import in_double
from torchwise.fields import Fields
from torchwise.hyperparameter_types import is_number
from torchwise.numbers import Scalar, double, refuse
from torchwise.pinning import sharing, zeros_for
from torchwise.rounding import add, div, lerp, mul, pinned, select, sub
from torchwise.structure import first_difference, named


class AverageState(NamedTuple):
    """What an average remembers.

    Attributes:
        n_averaged: how many parameters it is the average of (int32, 0-d).
        params: the average, a tree like the parameters.
    """

    n_averaged: jax.Array
    params: Any


class Average(Fields):
    """An average as two pure functions, `init` and `update`; a pytree of its numbers."""

    @abc.abstractmethod
    def advance(self, average: jax.Array, value: jax.Array, n: Any) -> jax.Array:
        """Return the next average of one array, after `n` values, at least one."""

    def init(self, params: Any) -> AverageState:
        """Return the state before the first parameters: copies, free to be donated."""
        return AverageState(jnp.zeros((), jnp.int32), jax.tree.map(_copied, params))

    def update(self, state: AverageState, params: Any) -> AverageState:
        """Return the state after further parameters; the average of the first is they themselves.

        It is pure: jit it, alone or together with the step. With the state donated, the average is
        written in place. Leaves that are not arrays of floating point or complex type are copied
        from the new parameters.

        Args:
            state: what `init` or the last `update` returned.
            params: a tree like the one that `init` was given.

        Raises:
            TypeError: if `state` is no state of an average.
            ValueError: naming every leaf that does not fit.
        """
        if not isinstance(state, AverageState):
            raise TypeError(
                f"update(): the state is {named(state)}, no AverageState: call update(state, "
                "params) with what init(params) returned"
            )
        values, treedef = jax.tree.flatten(params)
        averages = _matching(state.params, params)
        first = state.n_averaged == 0

        def next_of(average: Any, value: Any) -> Any:
            if not is_averaged(value):
                return value
            old = pinned(jnp.asarray(average))
            new = pinned(jnp.asarray(value).astype(old.dtype))
            return select(first, new, self.advance(old, new, state.n_averaged))

        with sharing(zeros_for(values)):
            new = list(map(next_of, averages, values))
        return AverageState(state.n_averaged + 1, treedef.unflatten(new))


class SWA(Average):
    """average + (value - average) / (n + 1): the mean of all values, with equal weights.

    Source: the default of `torch.optim.swa_utils.AveragedModel`; Izmailov et al., 2018.
    """

    def advance(self, average: jax.Array, value: jax.Array, n: Any) -> jax.Array:
        """Return the next mean."""
        return add(average, div(sub(value, average), n + 1))


class EMA(Average):
    """average + (1 - decay) * (value - average), as one interpolation.

    Source: `torch.optim.swa_utils.get_ema_multi_avg_fn`.
    """

    decay: Scalar

    def advance(self, average: jax.Array, value: jax.Array, n: Any) -> jax.Array:
        """Return the next average."""
        return lerp(average, value, one_minus(self.decay))


class WeightedSum(Average):
    """decay * average + (1 - decay) * value, rounded three times.

    Source: `torch.optim.swa_utils.get_ema_avg_fn`.
    """

    decay: Scalar

    def advance(self, average: jax.Array, value: jax.Array, n: Any) -> jax.Array:
        """Return the next average."""
        return add(mul(average, self.decay), mul(value, one_minus(self.decay)))


def swa() -> SWA:
    """Return the mean of all parameters so far: stochastic weight averaging.

    Returns:
        An object with `init(params)` and `update(state, params)`, both pure.

    Source: `torch.optim.swa_utils.AveragedModel`, as it averages by default on CPU.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import averages
        >>> average = averages.swa()
        >>> state = average.init(jnp.zeros(1))
        >>> for value in (1.0, 2.0, 6.0):
        ...     state = average.update(state, jnp.array([value]))
        >>> state.params, int(state.n_averaged)
        (Array([3.], dtype=float32), 3)
    """
    return SWA()


def ema(decay: Scalar = 0.999) -> EMA:
    """Return the exponential moving average: older parameters fade with every update.

    Args:
        decay: the weight of the old average, from 0 to 1; a number or a 0-d array.

    Returns:
        An object with `init(params)` and `update(state, params)`, both pure.

    Raises:
        ValueError: as torch does, for a decay outside of [0, 1].

    Source: `torch.optim.swa_utils.get_ema_multi_avg_fn`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from torchwise import averages
        >>> average = averages.ema(decay=0.75)
        >>> state = average.init(jnp.zeros(1))
        >>> for value in (4.0, 8.0):
        ...     state = average.update(state, jnp.array([value]))
        >>> state.params
        Array([5.], dtype=float32)
    """
    check_decay(decay)
    return EMA(decay)


def check_decay(decay: Any) -> None:
    """Raise torch's error for a decay that is known to be outside of [0, 1]."""
    if not is_number(decay):
        raise TypeError(f"decay must be a number, but is {decay!r}")
    message = f"Invalid decay value {decay} provided. Please provide a value in [0,1] range."
    refuse((decay < 0.0) | (decay > 1.0), message)


def is_averaged(leaf: Any) -> bool:
    """Whether a leaf is an array of floating point or complex type."""
    return isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.inexact)


@in_double
def one_minus(decay: Any) -> Any:
    """Return `1 - decay` in double precision."""
    return 1 - double(decay)


def _copied(leaf: Any) -> Any:
    return jnp.array(leaf) if isinstance(leaf, jax.Array | np.ndarray) else leaf


def _matching(averages: Any, params: Any) -> list[Any]:
    """Return the leaves of an average, of parameters that it fits."""
    entries, treedef = jax.tree.flatten_with_path(params)
    if jax.tree.structure(averages) != treedef:
        problem = first_difference(averages, params, "the state", "params")
        raise ValueError(
            f"update(): the state was made for other parameters: {problem}; pass params as "
            "init(params) got them"
        )
    leaves = jax.tree.leaves(averages)
    problems = [
        f"{trees.label(path)}: the average has shape {jnp.shape(average)}, the parameter "
        f"{jnp.shape(value)}"
        for average, (path, value) in zip(leaves, entries)
        if is_averaged(value) and jnp.shape(average) != jnp.shape(value)
    ]
    if problems:
        raise ValueError("update(): parameters do not fit the average:\n  " + "\n  ".join(problems))
    return leaves
