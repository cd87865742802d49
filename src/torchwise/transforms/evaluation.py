"""How the leaves of a chain are evaluated: the one place where platforms differ.

Two things leave an update: new states and directions. XLA fuses both into one kernel a parameter on
GPU and TPU. On CPU a fusion has one output, and what both need (the decayed gradient) would become
a temporary as large as the parameter. There the directions are computed a second time, from new
states behind a fence that keeps XLA from merging the two computations.

With `XLA_FLAGS=--xla_backend_extra_options=xla_cpu_use_multi_output_fusion=true` a fusion has
several outputs on CPU, too, if they are siblings: computed from the same inputs and not one from
the other. Then the second computation starts from the old states.
"""

import functools
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.core import Tracer

from torchwise.transforms.arithmetic import increment, settle
from torchwise.transforms.transform import Scaling, Transform, kinds


class Leaf(NamedTuple):
    """One parameter with all that its update needs; one state and one scalar a transform."""

    grad: jax.Array
    param: jax.Array
    states: tuple[Any, ...]
    scalars: tuple[Any, ...]


def evaluate(
    transforms: Sequence[Transform], leaves: Sequence[Leaf]
) -> list[tuple[tuple[Any, ...], jax.Array]]:
    """Return the new states and the increment of each leaf.

    Leaves of the same shape are traced and lowered once: models repeat their layers.
    """
    return [_evaluate_leaf(tuple(transforms), leaf) for leaf in leaves]


def _evaluate_leaf(
    transforms: tuple[Transform, ...], leaf: Leaf
) -> tuple[tuple[Any, ...], jax.Array]:
    """Evaluate one leaf in a function of its own: numbers are constants there, arrays arguments."""
    values, treedef = jax.tree.flatten((transforms, leaf))
    if not any(isinstance(value, Tracer) for value in values):
        return _results(transforms, leaf)  # run at once, another number needs no other program
    numbers = tuple(
        None if isinstance(value, jax.Array | np.ndarray) else value for value in values
    )
    arrays = [value for value, number in zip(values, numbers) if number is None]
    try:
        hash((treedef, numbers))
    except TypeError:  # as a schedule may be
        return _results(transforms, leaf)
    return _evaluate_flat(treedef, kinds(transforms), numbers, repr(numbers), arrays)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _evaluate_flat(
    treedef: Any, types: tuple[type, ...], numbers: tuple[Any, ...], text: str, arrays: list[Any]
) -> tuple[tuple[Any, ...], jax.Array]:
    """Put the transforms and the leaf together again; an array stands wherever no number does.

    Types and text tell apart what is equal and not the same: blocks alike, 0.0 and -0.0, 1 and 1.0.
    """
    rest = iter(arrays)
    values = [next(rest) if number is None else number for number in numbers]
    return _results(*treedef.unflatten(values))


def _results(transforms: Sequence[Transform], leaf: Leaf) -> tuple[tuple[Any, ...], jax.Array]:
    states = _accumulate(transforms, leaf)
    siblings = _fuses_several_outputs_on_cpu()
    second = leaf if siblings else leaf._replace(states=states)
    grad, param, held = _fence((second.grad, second.param, second.states))
    second = leaf._replace(grad=grad, param=param, states=held)
    if siblings:
        second = second._replace(states=_accumulate(transforms, second))
    return states, _direct(transforms, second)


def _fuses_several_outputs_on_cpu() -> bool:
    """Whether the user has switched on XLA's fusion of several outputs for CPU."""
    return "xla_cpu_use_multi_output_fusion=true" in os.environ.get("XLA_FLAGS", "")


def _accumulate(transforms: Sequence[Transform], leaf: Leaf) -> tuple[Any, ...]:
    """Advance the states in order. The last direction is dead code, which XLA removes."""
    grad: Any = leaf.grad
    new_states = []
    for transform, state, scalars in zip(transforms, leaf.states, leaf.scalars):
        grad = _input(transform, grad)
        state = transform.accumulate(grad, state, leaf.param, scalars)
        grad = transform.direction(grad, state, leaf.param, scalars)
        new_states.append(state)
    return tuple(new_states)


def _direct(transforms: Sequence[Transform], leaf: Leaf) -> jax.Array:
    """Follow the directions in order, off states that have advanced already."""
    grad: Any = leaf.grad
    for transform, state, scalars in zip(transforms, leaf.states, leaf.scalars):
        grad = transform.direction(_input(transform, grad), state, leaf.param, scalars)
    return increment(grad, leaf.param)


def _input(transform: Transform, grad: Any) -> Any:
    return grad if isinstance(transform, Scaling) else settle(grad)


def _fence(tree: Any) -> Any:
    """On CPU, keep XLA from merging what comes before with what comes after; elsewhere, nothing."""
    return lax.platform_dependent(tree, cpu=lax.optimization_barrier, default=lambda tree: tree)
