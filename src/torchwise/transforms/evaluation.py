"""How the leaves of a chain are evaluated: the one place where platforms differ.

Two things leave an update: new states and directions. XLA fuses both into one kernel a parameter on
GPU and TPU. On CPU a fusion has one output, and what both need (the decayed gradient) would become
a temporary as large as the parameter. There the directions are computed a second time, from new
states behind a fence that keeps XLA from merging the two computations.

With `XLA_FLAGS=--xla_backend_extra_options=xla_cpu_use_multi_output_fusion=true` a fusion has
several outputs on CPU, too, if they are siblings: computed from the same inputs and not one from
the other. Then the second computation starts from the old states.
"""

import os
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
    siblings = _fuses_several_outputs_on_cpu()
    second = [leaf if siblings else leaf._replace(states=new) for leaf, new in zip(leaves, states)]
    fenced = _fence([(leaf.grad, leaf.param, leaf.states) for leaf in second])
    second = [
        leaf._replace(grad=grad, param=param, states=held)
        for leaf, (grad, param, held) in zip(leaves, fenced)
    ]
    if siblings:
        second = [leaf._replace(states=_accumulate(transforms, leaf)) for leaf in second]
    return list(zip(states, [_direct(transforms, leaf) for leaf in second]))


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
