"""How the leaves of a chain are evaluated: the one place where platforms differ.

Two things leave an update: new states and directions. XLA fuses both into one kernel a parameter on
GPU and TPU. On CPU a fusion has one output, and what both need (the decayed gradient) would become
a temporary as large as the parameter. There the directions are computed a second time, from new
states behind a fence that keeps XLA from merging the two computations.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax import lax

from torchwise.transforms.arithmetic import increment, settle
from torchwise.transforms.transform import Scaling, Transform


class Leaf(NamedTuple):
    """One parameter with all that its update needs; one state and one scalar a transform."""

    grad: jax.Array
    param: jax.Array
    states: tuple[Any, ...]
    scalars: tuple[Any, ...]


def evaluate(
    transforms: Sequence[Transform], leaves: Sequence[Leaf]
) -> list[tuple[tuple[Any, ...], jax.Array]]:
    """Return the new states and the increment of each leaf."""
    states = [_accumulate(transforms, leaf) for leaf in leaves]
    fenced = _fence([(leaf.grad, leaf.param, new) for leaf, new in zip(leaves, states)])
    increments = [
        _direct(transforms, leaf._replace(grad=grad, param=param, states=new))
        for leaf, (grad, param, new) in zip(leaves, fenced)
    ]
    return list(zip(states, increments))


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
    return increment(grad)


def _input(transform: Transform, grad: Any) -> Any:
    return grad if isinstance(transform, Scaling) else settle(grad)


def _fence(tree: Any) -> Any:
    """On CPU, keep XLA from merging what comes before with what comes after; elsewhere, nothing."""
    return lax.platform_dependent(tree, cpu=lax.optimization_barrier, default=lambda tree: tree)
