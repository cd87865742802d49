"""One parameter's state as torch writes it: a flat dict under torch's keys."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.placement import constants, placed_like
from torchwise.rule import Rule
from torchwise.state_dict.arrays import adopted, any_array
from torchwise.state_dict.layout import Place

STEP = "step"


class Target(NamedTuple):
    """A parameter for which state is loaded.

    Attributes:
        label: what errors call it.
        place: its shape, its type, and how torch has its axes.
        rule: of its group.
    """

    label: str
    place: Place
    rule: Rule


def step_of(rule: Rule, count: Any) -> np.ndarray | int:
    """Return a step count as torch keeps it: in a 0-d float32 array of its own, or an integer."""
    return int(count) if rule.integer_step else np.array(count, np.float32)


def arrays_of(states: Sequence[Any]) -> dict[str, Any]:
    """Return the fields of the states of a rule's parts in one dict, but for those that are off."""
    return {
        name: value
        for state in states
        for name, value in state._asdict().items()
        if value is not None
    }


def initial_entry(rule: Rule, param: jax.Array) -> dict[str, Any]:
    """Return a parameter's state before its first gradient."""
    step = {STEP: step_of(rule, 0)} if rule.counts_in_torch else {}
    with constants():
        arrays = _initial_arrays(rule, param)
        return {**step, **{name: placed_like(param, array) for name, array in arrays.items()}}


def load_state(
    saved: Mapping[Any, Mapping[str, Any]], targets: Mapping[Any, Target], as_torch: bool = False
) -> tuple[dict[Any, dict[str, Any]], list[str]]:
    """Return the saved entries in JAX's memory, in their order, and all that is wrong with them.

    Values of another type get the parameter's, as in torch; the step stays float32. None is no
    value, and an entry without values is no state.

    Args:
        saved: entries of arrays of any library, by id.
        targets: the parameters, by id.
        as_torch: whether to do what torch's `load_state_dict` does and no resuming needs: to take
            what an option that is off has left behind, and to round the numbers of a parameter,
            float32 at first, to its type.
    """
    known = functools.cache(_shapes)
    loaded: dict[Any, dict[str, Any]] = {}
    problems: list[str] = []
    for identity, entry in saved.items():
        if identity not in targets:
            problems.append(f"state of {identity!r}, which no group has")
            continue
        target = targets[identity]
        given = {key: value for key, value in entry.items() if value is not None}
        if given:
            shapes = known(_Hashed(target.rule), target.place.shape, target.place.dtype, as_torch)
            loaded[identity], wrong = _load(target, given, *shapes)
            problems += wrong
        else:
            loaded[identity] = {}
    return loaded, problems


class _Hashed:
    """A rule as a key, by its structure: its numbers do not change the shapes of its state."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._key = jax.tree.structure(rule)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashed) and self._key == other._key


def _initial_arrays(rule: Rule, param: jax.Array) -> dict[str, Any]:
    return arrays_of([part.init(param) for part in rule.parts()])


def expected_shapes(rule: Rule, place: Place) -> dict[str, tuple[int, ...]]:
    """Return the shape that each array of a parameter's state has in torch."""
    needed, _ = _shapes(_Hashed(rule), place.shape, place.dtype, False)
    return {key: _expected(like, place) for key, like in needed.items()}


def _shapes(
    hashed: _Hashed, shape: tuple[int, ...], dtype: Any, as_torch: bool
) -> tuple[dict[str, jax.ShapeDtypeStruct], dict[str, jax.ShapeDtypeStruct]]:
    """Return the shapes and types of the state that there must be, and of all that may be."""
    rule, param = hashed.rule, jax.ShapeDtypeStruct(shape, dtype)
    needed = jax.eval_shape(functools.partial(_initial_arrays, rule), param)
    if rule.counts_in_torch:
        needed = {STEP: jax.ShapeDtypeStruct((), np.float32), **needed}
    if not as_torch:
        return needed, needed
    allowed = {**jax.eval_shape(rule.memory, param), **needed}
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        own = ((key, like) for key, like in allowed.items() if key != STEP)
        allowed |= {key: jax.ShapeDtypeStruct(like.shape, dtype) for key, like in own}
    return needed, allowed


def _load(
    target: Target, given: Mapping[str, Any], needed: Mapping[str, Any], allowed: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    label = target.label
    problems = [f"{label}: unexpected state {key!r}" for key in given if key not in allowed]
    problems += [f"{label}: missing state {key!r}" for key in needed if key not in given]
    loaded: dict[str, Any] = {}
    for key, value in given.items():
        if key in allowed:
            try:
                array = any_array(value)
                step = key == STEP
                loaded[key] = (
                    _step(target.rule, array) if step else _like(array, allowed[key], target.place)
                )
            except (TypeError, ValueError) as error:
                problems.append(f"{label}: {key!r} {error}")
    return loaded, problems


def _like(array: Any, like: Any, place: Place) -> jax.Array:
    """An array of the parameter's shape has the parameter's axes; any other is as it is."""
    _check_shape(array, _expected(like, place))
    as_parameter = like.shape == place.shape
    return adopted(place.from_torch(array) if as_parameter else array, like.dtype)


def _expected(like: Any, place: Place) -> tuple[int, ...]:
    return place.torch_shape if like.shape == place.shape else like.shape


def _step(rule: Rule, array: Any) -> np.ndarray | int:
    _check_shape(array, ())
    step = step_of(rule, array)
    if not 0 <= step < 2**31:
        raise ValueError(f"is {step}, but a step count must be at least 0 and below 2**31")
    return step


def _check_shape(array: Any, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        holder = f"the parameter {shape}" if shape else "a scalar is wanted"
        raise ValueError(f"has shape {array.shape}, {holder}")


def differs(rule: Rule, param: jax.Array, entry: Mapping[str, Any]) -> bool:
    """Whether any bit of an entry differs from what it was before the first gradient.

    Every array of a state starts filled with one number.
    """
    before = _initial_arrays(rule, jnp.zeros((), param.dtype))
    return any(_differs(np.asarray(entry[key]), np.asarray(before[key])) for key in before)


def _differs(array: np.ndarray, number: np.ndarray, chunk: int = 65_536) -> bool:
    """Compare bits without a copy of the whole array."""
    flat = array.reshape(-1)
    same = np.full(chunk, number).tobytes()
    parts = (flat[start : start + chunk].tobytes() for start in range(0, flat.size, chunk))
    return any(part != same[: len(part)] for part in parts)


def gradients_seen(rule: Rule, entry: Mapping[str, Any] | None) -> int:
    """Return a step count; where torch keeps none, all that matters is whether it is zero."""
    entry = entry or {}
    if STEP in entry:
        return int(entry[STEP])
    needed = jax.eval_shape(
        functools.partial(_initial_arrays, rule), jax.ShapeDtypeStruct((), jnp.float32)
    )
    return int(needed.keys() <= entry.keys())
