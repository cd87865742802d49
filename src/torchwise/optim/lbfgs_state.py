"""The state of LBFGS as torch writes it: one dict, with the history as lists of vectors."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.numbers import number
from torchwise.optim.parameter import Parameter
from torchwise.optim.state import State
from torchwise.optim.state_dicts import Group, match, refuse_problems
from torchwise.quasi_newton.history import History
from torchwise.quasi_newton.iteration import LBFGSState, initial_state, loss_dtype
from torchwise.quasi_newton.vector import vector_dtype, vector_size
from torchwise.state_dict.arrays import adopted, any_array

_COUNTS = ("func_evals", "n_iter")
_VECTORS = ("d", "prev_flat_grad")
_NUMBERS = ("t", "H_diag", "prev_loss")
_HISTORY = ("old_dirs", "old_stps", "ro")
_WRITTEN = (*_VECTORS, *_NUMBERS, *_HISTORY)


def packed(values: Mapping[str, Any], params: Sequence[jax.Array], history_size: int) -> LBFGSState:
    """Return what torch's keys hold, with the history in arrays of fixed size.

    Args:
        values: under torch's keys; empty before the first step.
        params: the parameters.
        history_size: how many pairs there may be; of more, the newest are kept.

    Raises:
        ValueError: for a history without rows.
    """
    state = initial_state(params, history_size)
    counts = {key: jnp.asarray(values[key], jnp.int32) for key in _COUNTS if key in values}
    if "d" not in values:
        return state._replace(**counts)
    dtype = state.d.dtype
    kept = {key: list(values[key])[-history_size:] for key in _HISTORY}
    known = len(kept["ro"])
    history = History(
        pairs=jnp.asarray(known, jnp.int32),
        old_dirs=_stacked(state.history.old_dirs, kept["old_dirs"]),
        old_stps=_stacked(state.history.old_stps, kept["old_stps"]),
        ro=_column(kept["ro"], history_size, dtype),
        al=_column(values.get("al", [])[:known], history_size, dtype),
        H_diag=jnp.array(values["H_diag"], dtype),  # a copy: the step gives the history up
    )
    return state._replace(
        **counts,
        d=values["d"],
        t=jnp.asarray(values["t"], dtype),
        history=history,
        prev_flat_grad=values["prev_flat_grad"],
        prev_loss=jnp.asarray(values["prev_loss"], loss_dtype()),
    )


def unpacked(state: LBFGSState) -> dict[str, Any]:
    """Return a state under torch's keys, in the order in which torch first sets them."""
    history = state.history
    scalars = state._replace(d=None, prev_flat_grad=None)
    small = jax.device_get(scalars._replace(history=history._replace(old_dirs=None, old_stps=None)))
    counts = {"func_evals": int(small.func_evals), "n_iter": int(small.n_iter)}
    if not small.n_iter:
        return counts
    pairs, size = int(small.history.pairs), len(small.history.ro)
    order = [pair % size for pair in range(max(0, pairs - size), pairs)]
    unused = [None] * (size - len(order))
    coefficients = [*map(jnp.asarray, small.history.al[: len(order)]), *unused]
    return {
        **counts,
        **({"al": coefficients} if small.n_iter > 1 else {}),
        "d": state.d,
        "t": float(small.t),
        "old_dirs": [_row(history.old_dirs, row) for row in order],
        "old_stps": [_row(history.old_stps, row) for row in order],
        "ro": [jnp.asarray(small.history.ro[row]) for row in order],
        "H_diag": history.H_diag if order else 1,
        "prev_flat_grad": state.prev_flat_grad,
        "prev_loss": float(small.prev_loss),
    }


def from_dict(
    state_dict: Mapping[str, Any],
    param_groups: Sequence[Group],
    defaults: Mapping[str, Any],
    check: Callable[[Group], None],
) -> tuple[list[Group], State]:
    """Return the groups and the state that a state dict means for LBFGS.

    Args:
        state_dict: torch's.
        param_groups: of the optimizer.
        defaults: the hyperparameters that the group must have.
        check: raises for invalid hyperparameters.

    Raises:
        ValueError: listing all problems.
    """
    groups, owners, problems = match(state_dict, param_groups, defaults, dict, check)
    first = param_groups[0]["params"][0]
    params = [parameter.own_array for parameter in param_groups[0]["params"]]
    size, dtype = vector_size(params), vector_dtype(params)
    theirs = [owners[identity].parameter for identity in state_dict["param_groups"][0]["params"]]
    places = _places(theirs, param_groups[0]["params"])
    state = State()
    for identity, values in state_dict["state"].items():
        given = {key: value for key, value in values.items() if value is not None}
        if identity not in owners:
            problems.append(f"state of {identity!r}, which no group has")
        elif given:
            owner = owners[identity]
            is_first = owner.parameter is theirs[0]
            wrong = [] if is_first else ["has a state, but no other than the first"]
            wrong += _key_problems(given)
            entry: dict[str, Any] = {}
            for key, value in given.items():
                try:
                    entry[key] = _value(key, value, size, dtype, places)
                except (TypeError, ValueError) as error:
                    wrong.append(f"{key!r} {error}")
            if len({len(entry[key]) for key in _HISTORY if key in entry}) > 1:
                wrong.append(f"{', '.join(map(repr, _HISTORY))} have different lengths")
            problems += [f"{owner.label}: {problem}" for problem in wrong]
            state[first] = entry
    refuse_problems(problems)
    return groups, state


def _key_problems(given: Mapping[str, Any]) -> list[str]:
    """Return which keys are missing or unexpected; before the first iteration there are counts."""
    needed = _COUNTS if given.keys() <= set(_COUNTS) else (*_COUNTS, *_WRITTEN)
    known = {*_COUNTS, *_WRITTEN, "al"}
    unexpected = [f"unexpected state {key!r}" for key in given if key not in known]
    return unexpected + [f"missing state {key!r}" for key in needed if key not in given]


def _places(theirs: Sequence[Parameter], ours: Sequence[Parameter]) -> np.ndarray | slice:
    """Return where in a saved vector the numbers of our parameters are, in our order."""
    if list(theirs) == list(ours):
        return slice(None)
    sizes = [vector_size(parameter.own_array) for parameter in theirs]
    ends = itertools.accumulate(sizes)
    own = {one: range(end - size, end) for one, size, end in zip(theirs, sizes, ends)}
    return np.concatenate([np.asarray(own[one], int) for one in ours])


def _value(key: str, value: Any, size: int, dtype: Any, places: np.ndarray | slice) -> Any:
    """Return a value in JAX's memory; vectors in our order of the parameters.

    Raises:
        TypeError, ValueError: if it does not fit, without the name of the key.
    """
    if key in _COUNTS:
        count = int(number(value))
        if not 0 <= count < 2**31:
            raise ValueError(f"is {count}, but a count must be at least 0 and below 2**31")
        return count
    if key in _VECTORS:
        return _array(value, (size,), dtype, places)
    if key in (*_HISTORY, "al"):
        if not isinstance(value, list | tuple):
            raise TypeError(f"is a {type(value).__name__}, no list")
        if key in ("old_dirs", "old_stps"):
            return [_array(one, (size,), dtype, places) for one in value]
        return [None if one is None and key == "al" else _array(one, (), dtype) for one in value]
    return value if isinstance(value, int | float) else _array(value, (), dtype)


def _array(
    value: Any, shape: tuple[int, ...], dtype: Any, places: np.ndarray | slice | None = None
) -> jax.Array:
    array = any_array(value)
    if array.shape != shape:
        raise ValueError(f"has shape {array.shape}, but {shape} is wanted")
    return adopted(array if places is None else array[places], dtype)


def _stacked(rows: jax.Array, vectors: Sequence[jax.Array]) -> jax.Array:
    """Put vectors into the first rows, in the memory of the rows."""
    for index, vector in enumerate(vectors):
        rows = _with_row(rows, index, vector)
    return rows


@functools.partial(jax.jit, donate_argnums=0)
def _with_row(rows: jax.Array, index: int, vector: jax.Array) -> jax.Array:
    return rows.at[index].set(vector)


@jax.jit
def _row(rows: jax.Array, index: int) -> jax.Array:
    return rows[index]


def _column(values: Sequence[Any], size: int, dtype: Any) -> jax.Array:
    """Return numbers in an array of fixed size, zeros for what is not there."""
    numbers = [0 if value is None else value for value in jax.device_get(list(values))]
    return jnp.asarray([*numbers, *[0] * (size - len(numbers))], dtype)
