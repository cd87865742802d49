"""The compiled steps: every group in one program, on the same leaves as the functional step.

What a program depends on is its `Plan`, a static argument; all numbers are arguments, so that a
changed learning rate is other data and not another program.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
from jax import lax

from torchwise.apply import step_leaves
from torchwise.blocks.clip_grad_norm import ClipGradNorm
from torchwise.leaf import Leaf, Parts
from torchwise.norms import clip_coefficient, total_norm
from torchwise.numbers import joined
from torchwise.optim.constant import Constant
from torchwise.optim.jaxprs import cotangent_of_the_loss
from torchwise.optim.parameter import Parameter
from torchwise.optim.skeleton import Skeleton
from torchwise.rule import Empty
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

    structure: Constant[Any]
    names: tuple[str, ...]
    size: int
    numbers_each: bool


class Numbers(NamedTuple):
    """The numbers of a step.

    With several sets of them, where a set begins is data, though it is always the same: kernels
    that differ only in where they read would be kernels of their own, and be compiled one by one.

    Attributes:
        rows: all numbers, from `split`.
        starts: where each set begins; empty for a single one.
    """

    rows: Any
    starts: Sequence[Any]


Plan: TypeAlias = Constant[tuple[Section, ...]]


@functools.partial(jax.jit, static_argnums=(0, 5), donate_argnums=(1, 2))
def update(
    plan: Plan,
    params: list[jax.Array],
    states: list[jax.Array],
    grads: list[Any],
    numbers: Numbers,
    whole_program: bool = True,
) -> tuple[list[jax.Array], list[jax.Array], jax.Array | None]:
    """Return the new parameters and states, and the norm of the gradients if they are clipped.

    Args:
        plan: its sections are in the order of the parameters.
        params: the parameters that have gradients; donated.
        states: the arrays of `Section.names`, parameter by parameter; donated.
        grads: the gradients: arrays, or `sparse.Rows`.
        numbers: of all sections; behind them, if the gradients are clipped, the largest norm that
            all of them together may have.
        whole_program: whether the gradients are arguments of the program; see `step_leaves`.
    """
    given = _in_turn(plan, numbers)
    leaves = list(_leaves(plan, params, states, grads, given))
    limit, norm = next(given, None), None
    if limit is not None:
        norm = total_norm(grads, 2.0)
        coefficient = clip_coefficient(limit, norm)
        leaves = [_clipped(leaf, coefficient) for leaf in leaves]
    results = step_leaves(leaves, whole_program)
    new = [array for _, held in results for array in arrays_of(held).values()]
    return [param for param, _ in results], new, norm


def _in_turn(plan: Plan, numbers: Numbers) -> Iterator[jax.Array]:
    """Yield the numbers of all sets, and what is behind them."""
    rows, starts = numbers
    end = 0
    for index, size in enumerate(set_sizes(plan)):
        end += size
        if starts:
            yield from joined(lax.dynamic_slice_in_dim(rows, starts[index], size))
        else:
            yield from joined(rows[:size])
    yield from joined(rows[end:])


def set_sizes(plan: Plan) -> list[int]:
    """Return how many numbers each set has; a section has one set, or one for each parameter."""
    return [
        one.structure.value.num_leaves
        for one in plan.value
        for _ in range(one.size if one.numbers_each else 1)
    ]


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
    for structure, names, size, numbers_each in plan.value:
        treedef = structure.value
        parts, n = (), ()
        for index in range(size):
            if index == 0 or numbers_each:
                parts, n = treedef.unflatten([next(number) for _ in range(treedef.num_leaves)])
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

    Raises:
        TypeError: if it returns no scalar, or with `has_aux` no `(loss, aux)`.
    """

    def of_params(params: list[jax.Array]) -> Any:
        out = loss_fn(skeleton.fill(params, given), *args)
        return checked_loss(out, has_aux)

    loss, pull_back, aux = jax.vjp(of_params, params, has_aux=True)
    (grads,) = pull_back(cotangent_of_the_loss(loss.dtype))
    grads = [jnp.conj(grad) if jnp.iscomplexobj(grad) else grad for grad in grads]
    return (loss, aux) if has_aux else loss, grads


def checked_loss(out: Any, has_aux: bool) -> tuple[jax.Array, Any]:
    """Return the loss and what else a loss function has returned, or raise a TypeError."""
    if has_aux and not (isinstance(out, tuple) and len(out) == 2):
        raise TypeError(f"with has_aux=True the loss function returns (loss, aux), but got {out!r}")
    loss, aux = out if has_aux else (out, None)
    if isinstance(loss, tuple | list | dict | None):
        raise TypeError(
            f"the loss must be a number, but the loss function returned a {type(loss).__name__}"
            + ("" if has_aux or not isinstance(loss, tuple) else "; is has_aux=True missing?")
        )
    loss = jnp.asarray(loss)
    if loss.shape != () or not jnp.issubdtype(loss.dtype, jnp.floating):
        raise TypeError(
            f"the loss must be a real number, but the loss function returned {loss.dtype}"
            f"{list(loss.shape)}; take its mean or its sum"
        )
    return loss, aux


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=(4, 5))
def train(
    plan: Plan,
    loss_fn: Callable[..., Any],
    has_aux: bool,
    skeleton: Skeleton,
    params: list[jax.Array],
    states: list[jax.Array],
    given: list[jax.Array],
    numbers: Numbers,
    args: tuple[Any, ...],
) -> tuple[Any, list[jax.Array], list[jax.Array], jax.Array | None]:
    """Loss, gradients and update as one program: `value_and_grad`, then `update`.

    Returns the leaves of what the loss function returns: to make a tree of them may call Python.
    """
    out, grads = value_and_grad(loss_fn, has_aux, skeleton, params, given, args)
    return jax.tree.leaves(out), *update(plan, params, states, grads, numbers, False)


def forget_losses() -> None:
    """Drop the programs of all loss functions; steps that compile again get copies again."""
    global _generation  # noqa: PLW0603 (as the programs are)
    _generation += 1
    for function in (value_and_grad, train):
        cast(Any, function).clear_cache()


_generation = 0


def generation() -> int:
    """Return how often programs have been dropped."""
    return _generation


def add(old: Mapping[Parameter, Any], new: Mapping[Parameter, Any]) -> dict[Parameter, jax.Array]:
    """Return new gradients, with the old ones of their parameters added; sums are dense."""
    pairs = {one: (as_dense(old[one]), as_dense(new[one])) for one in new if one in old}
    sums = _add(*map(list, zip(*pairs.values()))) if pairs else []
    return {**new, **dict(zip(pairs, sums))}


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
