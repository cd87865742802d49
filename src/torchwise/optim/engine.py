"""The compiled steps: every group in one program, on the same leaves as the functional step.

What a program depends on is its `Plan`, a static argument; all numbers come in one vector, so that
a changed learning rate is other data and not another program.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from torchwise.apply import Leaf, Parts, step_leaves
from torchwise.blocks.clip_grad_norm import ClipGradNorm
from torchwise.norms import clip_coefficient, total_norm
from torchwise.numbers import joined
from torchwise.optim.parameter import Parameter
from torchwise.optim.skeleton import Skeleton
from torchwise.rule import Empty
from torchwise.state_dict.entry import arrays_of


class Section(NamedTuple):
    """The parameters of one group in a step.

    Attributes:
        structure: of the parts of the group's rule and their numbers.
        names: the arrays that each parameter's state has.
        size: how many parameters.
        numbers_each: whether each parameter has numbers of its own, or all have the same.
    """

    structure: Any
    names: tuple[str, ...]
    size: int
    numbers_each: bool


Plan = tuple[Section, ...]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def update(
    plan: Plan,
    params: list[jax.Array],
    states: list[jax.Array],
    grads: list[jax.Array],
    numbers: jax.Array,
) -> tuple[list[jax.Array], list[jax.Array], jax.Array | None]:
    """Return the new parameters and states, and the norm of the gradients if they are clipped.

    Args:
        plan: the sections, in the order of the parameters.
        params: the parameters that have gradients; donated.
        states: the arrays of `Section.names`, parameter by parameter; donated.
        grads: the gradients.
        numbers: the numbers of all sections, from `split`; behind them, if the gradients are
            clipped, the largest norm that all of them together may have.
    """
    given = iter(joined(numbers))
    leaves = list(_leaves(plan, params, states, grads, given))
    limit, norm = next(given, None), None
    if limit is not None:
        norm = total_norm(grads, 2.0)
        coefficient = clip_coefficient(limit, norm)
        leaves = [_clipped(leaf, coefficient) for leaf in leaves]
    results = step_leaves(leaves)
    new = [array for _, held in results for array in arrays_of(held).values()]
    return [param for param, _ in results], new, norm


def _clipped(leaf: Leaf, coefficient: jax.Array) -> Leaf:
    """Put the block that clips in front of the parts of a leaf; it has no state."""
    return leaf._replace(
        parts=(ClipGradNorm(1.0), *leaf.parts),
        states=(Empty(), *leaf.states),
        numbers=(coefficient, *leaf.numbers),
    )


def _leaves(
    plan: Plan, params: Any, states: Any, grads: Any, number: Iterator[jax.Array]
) -> Iterator[Leaf]:
    given, held = iter(zip(params, grads)), iter(states)
    for structure, names, size, numbers_each in plan:
        parts, n = (), ()
        for index in range(size):
            if index == 0 or numbers_each:
                parts, n = structure.unflatten([next(number) for _ in range(structure.num_leaves)])
            param, grad = next(given)
            arrays = {name: next(held) for name in names}
            yield Leaf(parts, grad, param, _states_of(parts, arrays), n)


def _states_of(parts: Parts, arrays: Mapping[str, jax.Array]) -> tuple[Any, ...]:
    return tuple(
        part.State(**{name: arrays.get(name) for name in part.State._fields}) for part in parts
    )


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
) -> tuple[Any, list[jax.Array], list[jax.Array], jax.Array | None]:
    """Loss, gradients and update as one program: `value_and_grad`, then `update`."""
    out, grads = value_and_grad(loss_fn, has_aux, skeleton, params, given, args)
    return out, *update(plan, params, states, grads, numbers)


def may_raise(*args: Any) -> bool:
    """Whether `value_and_grad` of these arguments calls Python while it runs.

    Such a program may raise after it has taken donated arrays, and they would be gone.
    """
    return _calls_python(value_and_grad.trace(*args).jaxpr.jaxpr)


def _calls_python(jaxpr: Any) -> bool:
    for eqn in jaxpr.eqns:
        if "callback" in eqn.primitive.name:
            return True
        for value in jax.tree.leaves(list(eqn.params.values())):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns") and _calls_python(inner):
                return True
    return False


def add(
    old: Mapping[Parameter, jax.Array], new: Mapping[Parameter, jax.Array]
) -> dict[Parameter, jax.Array]:
    """Return the sums of two sets of gradients of the same parameters."""
    sums = _add([*old.values()], [new[parameter] for parameter in old]) if old else []
    return dict(zip(old, sums))


@jax.jit
def _add(old: list[jax.Array], new: list[jax.Array]) -> list[jax.Array]:
    return [a + b for a, b in zip(old, new)]


@jax.jit
def copies(arrays: list[jax.Array]) -> list[jax.Array]:
    """Return copies of arrays, in one program."""
    return [jnp.copy(array) for array in arrays]


def donated(arrays: list[jax.Array], shared: list[bool]) -> list[jax.Array]:
    """Return arrays to donate: copies of those that somebody else may have, or that must stay."""
    if not any(shared):
        return arrays
    kept = iter(copies([array for array, one in zip(arrays, shared) if one]))
    return [next(kept) if one else array for array, one in zip(arrays, shared)]
