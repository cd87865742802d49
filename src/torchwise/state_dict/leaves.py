"""One parameter's entry in a state dict: made from a chain's state, checked, and made into one."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.checkpoint.arrays import as_numpy
from torchwise.state_dict.layout import Place
from torchwise.transforms import entries
from torchwise.transforms.chain import Chain, ChainState
from torchwise.transforms.placement import beside
from torchwise.transforms.transform import Transform


def step_array(count: Any) -> np.ndarray:
    """Return a step count as torch keeps it, in a 0-d float32 array of its own."""
    return np.array(count, np.float32)


def initial_entry(transforms: Sequence[Transform], param: jax.Array) -> dict[str, Any]:
    """Return a parameter's state before its first gradient, under torch's keys."""
    step = {entries.STEP: step_array(0)} if entries.saves_step(transforms) else {}
    return {**step, **entries.initial(transforms, param)}


def entries_of(
    chain: Chain, state: ChainState, params: Sequence[jax.Array]
) -> list[tuple[dict[str, Any], bool | None]]:
    """Return the entry of each parameter of a chain, and whether it has seen a gradient.

    None where nobody can tell: the chain does not count, and the arrays are in every bit what they
    were at first. For such a chain it makes no difference to the next step.
    """
    fields = {name: jax.tree.leaves(tree) for name, tree in entries.flatten(state.states).items()}
    steps = jax.device_get(jax.tree.leaves(state.step))
    found = []
    for index, param in enumerate(params):
        entry = {name: leaves[index] for name, leaves in fields.items()}
        if entries.saves_step(chain.transforms):
            entry = {entries.STEP: step_array(steps[index]), **entry}
        started = bool(steps[index] > 0) if steps else _differs(chain, param, entry) or None
        found.append((entry, started))
    return found


def chain_state(
    chain: Chain,
    template: ChainState,
    held: Sequence[Mapping[str, Any] | None],
    params: Sequence[jax.Array],
) -> ChainState:
    """Return the state of a chain with these entries of its parameters.

    Args:
        chain: the chain.
        template: its state as `jax.eval_shape` gives it.
        held: an entry for each parameter; what it lacks is as before the first gradient.
        params: the parameters.
    """
    steps = [jnp.asarray(_count(chain, entry), jnp.int32) for entry in held]
    full = [
        {**initial_entry(chain.transforms, param), **(entry or {})}
        for param, entry in zip(params, held)
    ]

    def tree_of(structure: Any, values: list[Any]) -> Any:
        placed = [beside(param, jnp.array(value)) for param, value in zip(params, values)]
        return jax.tree.structure(structure).unflatten(placed)

    states = tuple(
        type(state)(
            *(tree_of(tree, [one[name] for one in full]) for name, tree in state._asdict().items())
        )
        for state in template.states
    )
    return ChainState(None if template.step is None else tree_of(template.step, steps), states)


def shapes_of(
    transforms: Sequence[Transform], shape: tuple[int, ...], dtype: Any
) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes and types of all state that such a parameter may have, by key."""
    initial = functools.partial(entries.initial, transforms)
    known = jax.eval_shape(initial, jax.ShapeDtypeStruct(shape, dtype))
    step = {entries.STEP: jax.ShapeDtypeStruct((), np.float32)}
    return {**step, **known} if entries.saves_step(transforms) else known


def load_entry(
    label: str, saved: Mapping[str, Any], known: Mapping[str, Any], place: Place
) -> tuple[dict[str, Any], list[str]]:
    """Return the arrays of a saved entry, in the tree's layout, and what is wrong with them.

    Values of another type get the parameter's, as in torch; the step stays float32.

    Args:
        label: the parameter, for the texts.
        saved: arrays of any library. None is no value, and an entry without values is no state.
        known: see `shapes_of`.
        place: the parameter.
    """
    given = {key: value for key, value in saved.items() if value is not None}
    if not given:
        return {}, []
    problems = [f"{label}: unexpected state {key!r}" for key in given if key not in known]
    problems += [f"{label}: missing state {key!r}" for key in known if key not in given]
    loaded: dict[str, Any] = {}
    for key, like in known.items():
        if key in given:
            try:
                array = any_array(given[key])
                step = key == entries.STEP
                loaded[key] = _step(array) if step else _like(array, like, place)
            except (TypeError, ValueError) as error:
                problems.append(f"{label}: {key!r} {error}")
    return loaded, problems


def any_array(value: Any) -> np.ndarray | jax.Array:
    """Return an array of any library as one that numpy and JAX read; memory on a CPU is shared.

    Raises:
        TypeError: for what is no array and no number.
    """
    if isinstance(value, jax.Array):
        return value
    if isinstance(value, np.generic | bool | int | float | complex):
        return np.asarray(value)
    array = as_numpy(value, "cannot be read")
    if array is None:
        raise TypeError(f"is a {type(value).__name__}, no array")
    return array


def adopted(array: np.ndarray | jax.Array, dtype: Any) -> jax.Array:
    """Return a copy in JAX's own memory: torch and numpy change theirs in place.

    Raises:
        ValueError: if a complex array is to become real.
    """
    if jnp.iscomplexobj(array) and not jnp.issubdtype(dtype, jnp.complexfloating):
        raise ValueError(f"is {array.dtype}, the parameter {jnp.dtype(dtype)}")
    return jnp.array(array, dtype)


def _like(array: Any, like: Any, place: Place) -> jax.Array:
    """An array of the parameter's shape has the parameter's axes; any other is as it is."""
    as_parameter = like.shape == place.shape
    _check_shape(array, place.torch_shape if as_parameter else like.shape)
    return adopted(place.from_torch(array) if as_parameter else array, like.dtype)


def _step(array: Any) -> np.ndarray:
    _check_shape(array, ())
    step = step_array(array)
    if not 0 <= step < 2**31:
        raise ValueError(f"is {step}, which counts nothing")
    return step


def _check_shape(array: Any, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        holder = f"the parameter {shape}" if shape else "a scalar is wanted"
        raise ValueError(f"has shape {array.shape}, {holder}")


def _count(chain: Chain, entry: Mapping[str, Any] | None) -> int:
    """Return a step count; where torch keeps none, all that matters is whether it is zero."""
    entry = entry or {}
    if entries.STEP in entry:
        return int(entry[entries.STEP])
    return int(all(name in entry for name in entries.keys(chain.transforms)))


def _differs(chain: Chain, param: jax.Array, entry: Mapping[str, Any]) -> bool:
    before = initial_entry(chain.transforms, param)
    return any(np.asarray(entry[k]).tobytes() != np.asarray(before[k]).tobytes() for k in before)
