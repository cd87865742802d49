"""Sparse gradients: the rows that they name are taken out, stepped as arrays, and put back.

Users pass a sparse gradient as a `jax.experimental.sparse.BCOO`, the counterpart of torch's COO
tensor: its leading `n_sparse` axes are sparse and those behind them dense, as in the gradient of an
embedding, which names rows. A step gets it as `Rows`.
"""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from torchwise.rounding import full_like

L = TypeVar("L", bound=NamedTuple)


class Rows(NamedTuple):
    """What a sparse gradient names.

    Attributes:
        indices: (entries, sparse axes), integers. A row may be named several times; indices
            outside of the parameter are padding, as in a BCOO.
        values: (entries, *dense axes).
    """

    indices: jax.Array
    values: jax.Array


def is_sparse(grad: Any) -> bool:
    """Whether a gradient is sparse; it is a pytree itself, but one leaf of a tree of gradients."""
    # Whoever has a BCOO has imported the module, which takes a quarter of JAX's own time.
    module = sys.modules.get("jax.experimental.sparse")
    return module is not None and isinstance(grad, module.BCOO)


def layout_problem(grad: Any) -> str | None:
    """Return what keeps a sparse gradient from being used, or None."""
    if grad.n_batch or not grad.n_sparse:
        return (
            f"the gradient is a BCOO with n_batch={grad.n_batch} and n_sparse={grad.n_sparse}, "
            "but needs n_batch=0 and n_sparse of at least 1: update_layout() changes both"
        )
    if math.prod(grad.shape[: grad.n_sparse]) + grad.nse > jnp.iinfo(jnp.int32).max:
        return "the gradient has sparse axes of 2**31 elements or more; make the last ones dense"
    return None


def as_rows(grad: Any) -> Any:
    """Return a sparse gradient as `Rows`, and any other as it is."""
    return Rows(grad.indices, grad.data) if is_sparse(grad) else grad


def as_gradient(grad: Any, dtype: Any) -> Any:
    """Return a gradient as an array or as `Rows`, of the parameter's type."""
    if is_sparse(grad):
        return Rows(grad.indices, grad.data.astype(dtype))
    return jnp.asarray(grad).astype(dtype)


def zeros(grad: Any) -> Any:
    """Return a gradient of zeros like another; a sparse one has no entries."""
    if is_sparse(grad):
        return type(grad)((grad.data[:0], grad.indices[:0]), shape=grad.shape)
    return jnp.zeros_like(grad)


def as_dense(grad: Any) -> jax.Array:
    """Return a gradient as an array."""
    return grad.todense() if is_sparse(grad) else grad


def by_rows(step: Callable[[L], tuple[jax.Array, Any]]) -> Callable[[L], tuple[jax.Array, Any]]:
    """Let a step of whole arrays take sparse gradients: it then gets only the rows they name.

    Each part says what stands in its place for such a gradient, or refuses it; see
    `Transform.for_gradient`.

    Args:
        step: takes a leaf and returns its new parameter and its new states.
    """

    def either(leaf: Any) -> tuple[jax.Array, Any]:
        sparse = isinstance(leaf.grad, Rows)
        # From the rule backwards: it knows torch's words for what it does not take.
        backwards = [part.for_gradient(sparse) for part in reversed(leaf.parts)]
        leaf = leaf._replace(parts=tuple(reversed(backwards)))
        return _step_rows(step, leaf) if sparse else step(leaf)

    return either


def without_rows(update: Callable[[L], Any]) -> Callable[[L], Any]:
    """Let a function of whole arrays refuse sparse gradients."""

    def dense(leaf: Any) -> Any:
        if isinstance(leaf.grad, Rows):
            raise TypeError(
                "update() returns increments of whole arrays, but a gradient is sparse: call "
                "params, state = transform.step(grads, state, params)"
            )
        parts = tuple(part.for_gradient(False) for part in leaf.parts)
        return update(leaf._replace(parts=parts))

    return dense


def coalesced(grad: Rows, sizes: Sequence[int]) -> tuple[jax.Array, jax.Array]:
    """Return each row that a gradient names once, in order, with the sum of its values.

    Values are added in the order of the entries.

    Args:
        grad: has at least one entry.
        sizes: of the sparse axes.

    Returns:
        The rows, ascending, as positions in the flattened sparse axes, and their values. There are
        as many as entries: where rows were named several times, the last ones are outside of the
        parameter.
    """
    named = _flat(grad.indices, sizes)
    order = jnp.argsort(named, stable=True)
    ascending = named[order]
    starts = jnp.concatenate([jnp.ones(1, bool), ascending[1:] != ascending[:-1]])
    group = jnp.cumsum(starts, dtype=jnp.int32) - 1
    # -0.0 plus a first value is that value, to the bit.
    values = full_like(grad.values, -0.0).at[group].add(grad.values[order], indices_are_sorted=True)
    outside = math.prod(sizes) + jnp.arange(len(named), dtype=jnp.int32)
    return outside.at[group].set(ascending, indices_are_sorted=True), values


def _step_rows(step: Callable[[Any], tuple[jax.Array, Any]], leaf: Any) -> tuple[jax.Array, Any]:
    indices, values = leaf.grad
    if not len(indices):
        return leaf.param, leaf.states
    shape, axes = leaf.param.shape, indices.shape[-1]
    rows, values = coalesced(leaf.grad, shape[:axes])

    def taken(array: jax.Array) -> jax.Array:
        if array.shape != shape:  # a number of the parameter
            return array
        return _table(array, axes).at[rows].get(mode="clip")

    def put(array: jax.Array, new: jax.Array) -> jax.Array:
        if array.shape != shape:
            return new
        named = _table(array, axes).at[rows]
        filled = named.set(new, mode="drop", indices_are_sorted=True, unique_indices=True)
        return filled.reshape(shape)

    states = jax.tree.map(taken, leaf.states)
    new, held = step(leaf._replace(grad=values, param=taken(leaf.param), states=states))
    return put(leaf.param, new), jax.tree.map(put, leaf.states, held)


def _table(array: jax.Array, axes: int) -> jax.Array:
    """Return an array with its leading axes as one."""
    return array if axes == 1 else array.reshape(math.prod(array.shape[:axes]), *array.shape[axes:])


def _flat(indices: jax.Array, sizes: Sequence[int]) -> jax.Array:
    """Return positions in the flattened axes: negative indices count from the end, as in BCOO.

    What is outside of an axis gets the first position behind all rows.
    """
    flat = jnp.zeros(len(indices), jnp.int32)
    inside = jnp.ones(len(indices), bool)
    for axis, size in enumerate(sizes):
        index = indices[:, axis]
        index = jnp.where(index < 0, index + size, index)
        inside &= (0 <= index) & (index < size)
        flat = flat * size + index.astype(jnp.int32)
    return jnp.where(inside, flat, math.prod(sizes))
