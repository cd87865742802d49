"""All parameters as one vector of real numbers."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from torchwise.rounding import add, pinned


def vector_dtype(tree: Any) -> Any:
    """Return the type of the vector: the real type that all arrays of a tree fit into."""
    leaves = jax.tree.leaves(tree)
    with jax.numpy_dtype_promotion("standard"):
        return jnp.finfo(jnp.result_type(*leaves)).dtype


def vector_size(tree: Any) -> int:
    """Return how many real numbers a tree has."""
    return sum((2 if jnp.iscomplexobj(leaf) else 1) * leaf.size for leaf in jax.tree.leaves(tree))


@jax.jit
def flat(tree: Any) -> jax.Array:
    """Return the arrays of a tree one behind the other; a complex number is a pair."""
    dtype = vector_dtype(tree)
    return jnp.concatenate([_real(leaf).astype(dtype) for leaf in jax.tree.leaves(tree)])


@jax.jit
def moved(params: Any, t: jax.Array, d: jax.Array, moves: Any = True) -> Any:
    """Return `param.add(part of d, alpha=t)` for each parameter.

    Args:
        params: a tree of arrays.
        t: the step length, 0-d.
        d: the direction, of all parameters as one vector.
        moves: whether they move at all; 0-d.
    """
    leaves, treedef = jax.tree.flatten(params)
    results, start = [], 0
    for leaf in leaves:
        size = vector_size(leaf)
        part = _shaped(d[start : start + size], leaf)
        new = add(leaf.astype(part.dtype), part, alpha=t).astype(leaf.dtype)
        results.append(jnp.where(moves, new, leaf))
        start += size
    return treedef.unflatten(results)


def dot(x: jax.Array, other: jax.Array) -> jax.Array:
    """Return `x.dot(other)`: XLA's order of the sum, not torch's; half types sum in float32."""
    wide = jnp.float32 if x.dtype.itemsize < 4 else x.dtype
    product = jnp.dot(x.astype(wide), other.astype(wide), precision=lax.Precision.HIGHEST)
    return pinned(product).astype(x.dtype)


def largest(x: jax.Array) -> jax.Array:
    """Return `x.abs().max()`."""
    return jnp.max(jnp.abs(x))


def _real(leaf: jax.Array) -> jax.Array:
    if jnp.iscomplexobj(leaf):
        return jnp.stack([leaf.real, leaf.imag], axis=-1).ravel()
    return jnp.ravel(leaf)


def _shaped(part: jax.Array, like: jax.Array) -> jax.Array:
    if jnp.iscomplexobj(like):
        pairs = part.reshape(*like.shape, 2)
        return lax.complex(pairs[..., 0], pairs[..., 1])
    return part.reshape(like.shape)
