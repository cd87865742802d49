"""The compiled steps: every group in one program, built from the same transforms as the chains.

What a program depends on is its `Plan`, a static argument; all numbers come in one vector, so that
a changed learning rate is other data and not another program.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from torchwise.optim.parameter import Parameter
from torchwise.optim.skeleton import Skeleton
from torchwise.transforms import entries
from torchwise.transforms.evaluation import Leaf, evaluate
from torchwise.transforms.transform import Transform


class Segment(NamedTuple):
    """The parameters of one group in a step, with 0.0 for every number.

    Attributes:
        transforms: the group's transforms.
        scalars: what `scalars_at` returns for each distinct step count.
        rows: for each parameter, which of those scalars are its own.
    """

    transforms: tuple[Transform, ...]
    scalars: tuple[Any, ...]
    rows: tuple[int, ...]


Plan = tuple[Segment, ...]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def update(
    plan: Plan,
    params: list[jax.Array],
    states: list[jax.Array],
    grads: list[jax.Array],
    numbers: jax.Array,
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Return the new parameters and states.

    Args:
        plan: the segments, in the order of the parameters.
        params: the parameters that have gradients; donated.
        states: the arrays of `entries.keys`, parameter by parameter; donated.
        grads: the gradients.
        numbers: the numbers of all segments.
    """
    given, values = iter(zip(params, grads)), iter(states)
    scalar = iter(numbers[index] for index in range(numbers.shape[0]))
    new_params: list[jax.Array] = []
    new_states: list[jax.Array] = []
    for transforms, blanks, rows in plan:
        scalars = jax.tree.map(lambda _: next(scalar), blanks)
        names = entries.keys(transforms)
        leaves = []
        for row in rows:
            param, grad = next(given)
            arrays = {name: next(values) for name in names}
            states_of_leaf = entries.unflatten(transforms, arrays)
            leaves.append(Leaf(grad, param, states_of_leaf, scalars[row]))
        for leaf, (after, increment) in zip(leaves, evaluate(transforms, leaves)):
            new_params.extend(jax.tree.leaves(optax.apply_updates(leaf.param, increment)))
            new_states.extend(entries.flatten(after).values())
    return new_params, new_states


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def value_and_grad(
    loss_fn: Callable[..., Any],
    has_aux: bool,
    skeleton: Skeleton,
    params: list[jax.Array],
    given: list[jax.Array],
    args: tuple[Any, ...],
) -> tuple[Any, list[jax.Array]]:
    """Return what the loss function returns, and its gradients for `params`."""

    def of_params(params: list[jax.Array]) -> Any:
        return loss_fn(skeleton.fill(params, given), *args)

    return jax.value_and_grad(of_params, has_aux=has_aux)(params)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=(4, 5))
def train(
    plan: Plan,
    loss_fn: Callable[..., Any],
    has_aux: bool,
    skeleton: Skeleton,
    params: list[jax.Array],
    states: list[jax.Array],
    given: list[jax.Array],
    numbers: jax.Array,
    args: tuple[Any, ...],
) -> tuple[Any, list[jax.Array], list[jax.Array]]:
    """Loss, gradients and update as one program: `value_and_grad`, then `update`."""
    out, grads = value_and_grad(loss_fn, has_aux, skeleton, params, given, args)
    return out, *update(plan, params, states, grads, numbers)


def add(
    old: Mapping[Parameter, jax.Array], new: Mapping[Parameter, jax.Array]
) -> dict[Parameter, jax.Array]:
    """Return the sums of two sets of gradients of the same parameters."""
    sums = _add([*old.values()], [new[parameter] for parameter in old]) if old else []
    return dict(zip(old, sums))


@jax.jit
def _add(old: list[jax.Array], new: list[jax.Array]) -> list[jax.Array]:
    return [a + b for a, b in zip(old, new)]


def unshared(arrays: list[jax.Array]) -> list[jax.Array]:
    """Return the arrays fit for donation: copies of those that somebody else still refers to.

    An array that `optimizer.params` or a state dict handed out must stay what it was. CPython
    counts references: one is the holder's, one the list's, one that of the call that asks.
    """
    return [array if sys.getrefcount(array) <= 4 else jnp.array(array) for array in arrays]
