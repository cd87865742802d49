"""The compiled steps: every group in one program, on the same leaves as the functional step.

What a program depends on is its `Plan`, a static argument; all numbers come in one vector, so that
a changed learning rate is other data and not another program.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from torchwise.apply import step_leaves
from torchwise.leaf import Leaf, Parts
from torchwise.numbers import joined
from torchwise.optim.parameter import Parameter
from torchwise.optim.skeleton import Skeleton
from torchwise.sparse import as_dense
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
    grads: list[Any],
    numbers: jax.Array,
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Return the new parameters and states.

    Args:
        plan: the sections, in the order of the parameters.
        params: the parameters that have gradients; donated.
        states: the arrays of `Section.names`, parameter by parameter; donated.
        grads: the gradients: arrays, or `sparse.Rows`.
        numbers: the numbers of all sections, from `split`.
    """
    leaves = list(_leaves(plan, params, states, grads, numbers))
    results = step_leaves(leaves)
    new = [array for _, held in results for array in arrays_of(held).values()]
    return [param for param, _ in results], new


def _leaves(plan: Plan, params: Any, states: Any, grads: Any, numbers: Any) -> Iterator[Leaf]:
    given, held = iter(zip(params, grads)), iter(states)
    number = iter(joined(numbers))
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
    """Return what the loss function returns, and its gradients for `params`.

    JAX's gradient for a complex parameter is the conjugate of torch's, along which the loss rises.
    """

    def of_params(params: list[jax.Array]) -> Any:
        return loss_fn(skeleton.fill(params, given), *args)

    out, grads = jax.value_and_grad(of_params, has_aux=has_aux)(params)
    return out, [jnp.conj(grad) if jnp.iscomplexobj(grad) else grad for grad in grads]


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


def add(old: Mapping[Parameter, Any], new: Mapping[Parameter, Any]) -> dict[Parameter, jax.Array]:
    """Return the sums of two sets of gradients of the same parameters; sums are dense."""
    pairs = [(as_dense(old[parameter]), as_dense(new[parameter])) for parameter in old]
    sums = _add(*map(list, zip(*pairs))) if pairs else []
    return dict(zip(old, sums))


@jax.jit
def _add(old: list[jax.Array], new: list[jax.Array]) -> list[jax.Array]:
    return [a + b for a, b in zip(old, new)]


@jax.jit
def copies(arrays: list[jax.Array]) -> list[jax.Array]:
    """Return copies of arrays, in one program."""
    return [jnp.copy(array) for array in arrays]
