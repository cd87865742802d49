"""A parameter's state as torch writes it: one flat dict under torch's keys."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from torchwise.transforms.placement import beside
from torchwise.transforms.transform import Transform

STEP = "step"

_state_types: dict[type[Transform], Any] = {}


def state_type(transform: Transform) -> Any:
    """Return the NamedTuple class of a transform's state; it is the same for a whole class."""
    kind = type(transform)
    if kind not in _state_types:
        state = jax.eval_shape(transform.init, jax.ShapeDtypeStruct((), jnp.float32))
        _state_types[kind] = type(state)
    return _state_types[kind]


def keys(transforms: Sequence[Transform]) -> tuple[str, ...]:
    """Return the names of the arrays that the transforms keep for a parameter, in order.

    Raises:
        ValueError: if two transforms use the same name: one dict cannot hold both.
    """
    names = [name for transform in transforms for name in state_type(transform)._fields]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two transforms of this chain keep a state named {name!r}")
    return tuple(names)


def saves_step(transforms: Sequence[Transform]) -> bool:
    """Whether torch writes the step count of a parameter for these transforms."""
    return any(transform.saves_step for transform in transforms)


def initial(transforms: Sequence[Transform], param: jax.Array) -> dict[str, jax.Array]:
    """Return the arrays before the first gradient, by name."""
    return flatten([beside(param, transform.init(param)) for transform in transforms])


def flatten(states: Sequence[Any]) -> dict[str, jax.Array]:
    """Return the fields of all states in one dict."""
    return {name: value for state in states for name, value in state._asdict().items()}


def unflatten(transforms: Sequence[Transform], arrays: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return one state a transform, with fields out of one dict."""
    kinds = map(state_type, transforms)
    return tuple(kind(**{name: arrays[name] for name in kind._fields}) for kind in kinds)
