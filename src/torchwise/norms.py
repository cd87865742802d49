"""The norm of all gradients together, in torch's steps, and the factor that clips them."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from torchwise import trees
from torchwise.numbers import Scalar
from torchwise.rounding import add, mul, norm, pinned, reciprocal
from torchwise.sparse import is_sparse


def get_total_norm(
    tree: Any, norm_type: float | str = 2.0, error_if_nonfinite: bool = False
) -> jax.Array:
    """Return the norm of all arrays of a tree together, computed in one compiled program.

    It is torch's norm of norms: the norm of each array is rounded to the array's type, and the norm
    of these norms to the type that they promote to, so bfloat16 gradients have a bfloat16 norm.

    Args:
        tree: arrays of floating point or complex type; None and other missing gradients are left
            out.
        norm_type: the order p of the norm; "inf" or `math.inf` gives the largest absolute value. As
            in torch, 0 counts the arrays that are not all zero.
        error_if_nonfinite: raise an error for a norm that is infinite or NaN.

    Returns:
        A 0-d array in the gradients' unit; 0 for a tree without arrays.

    Raises:
        TypeError: naming a leaf that is no such array, as a sparse gradient is.
        RuntimeError: as torch does, with `error_if_nonfinite`; with it also under `jax.jit`, where
            no number is known and nothing can be raised.

    Source: `torch.nn.utils.get_total_norm`.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> grads = {"w": jnp.array([3.0, 4.0]), "b": jnp.array(12.0), "frozen": None}
        >>> torchwise.get_total_norm(grads), torchwise.get_total_norm(grads, "inf")
        (Array(13., dtype=float32), Array(12., dtype=float32))
    """
    norm = total_norm(_arrays(tree), float(norm_type))
    if error_if_nonfinite:
        refuse_nonfinite(norm, float(norm_type))
    return norm


def total_norm(arrays: Sequence[jax.Array], norm_type: float) -> jax.Array:
    """Return `get_total_norm` of a list, in one program."""
    return _total_norm(list(arrays), norm_type)


def clip_coefficient(max_norm: Scalar, norm: jax.Array) -> jax.Array:
    """Return `clamp(max_norm / (norm + 1e-6), max=1)`, in the norm's type.

    torch divides a number by a tensor as the tensor's reciprocal times the number. Behind the
    barrier the factor is computed once, and not for every element that it multiplies.
    """
    quotient = mul(reciprocal(add(norm, 1e-6)), max_norm)
    return lax.optimization_barrier(jnp.minimum(quotient, jnp.ones_like(quotient)))


def refuse_nonfinite(norm: jax.Array, norm_type: float) -> None:
    """Raise torch's error for a norm that is infinite or NaN.

    Raises:
        RuntimeError: also for a norm that is not known, since it is traced.
    """
    if isinstance(norm, Tracer):
        raise RuntimeError(
            "error_if_nonfinite=True has no effect in a compiled program, which cannot raise: "
            "leave it False there, and look at jnp.isfinite(torchwise.get_total_norm(grads))"
        )
    if not bool(jnp.isfinite(norm)):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, "
            "so it cannot be clipped. To disable this error and scale the gradients by the "
            "non-finite norm anyway, set `error_if_nonfinite=False`"
        )


def check_limit(name: str, value: Any) -> None:
    """Raise a ValueError for a limit known to be negative, which would turn signs, or NaN."""
    if not callable(value) and not isinstance(value, Tracer) and not value >= 0:
        raise ValueError(f"{name} must be at least 0, but is {value}")


def vector_norm(x: jax.Array, norm_type: float) -> jax.Array:
    """Return the norm of all elements, in the array's real type; half types sum in float32."""
    if norm_type == 2:
        length = norm(_wide(x))
    else:
        length = pinned(_of_magnitudes(_wide(jnp.abs(x)), norm_type))
    return length.astype(jnp.finfo(x.dtype).dtype)


def _of_magnitudes(x: jax.Array, norm_type: float) -> jax.Array:
    """Return a norm of absolute values; an empty array adds nothing to any of them."""
    if norm_type == math.inf:
        return jnp.max(x, initial=0.0)
    if norm_type == -math.inf:
        return jnp.min(x, initial=math.inf)
    if norm_type == 0:
        return jnp.sum((x != 0).astype(x.dtype))
    if norm_type == 1:
        return jnp.sum(x)
    powers = jnp.power(x, jnp.asarray(norm_type, x.dtype))
    return jnp.power(jnp.sum(powers), jnp.asarray(1 / norm_type, x.dtype))


# Leaves of one shape share a trace. Inline, since the argument of a call is an array in memory.
_vector_norm = jax.jit(vector_norm, static_argnums=1, inline=True)


def _norm_of_all(arrays: list[jax.Array], norm_type: float) -> jax.Array:
    if not arrays:
        return jnp.zeros((), jnp.float32)
    norms = [_vector_norm(array, norm_type) for array in arrays]
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(*(norm.dtype for norm in norms))
    return vector_norm(jnp.stack([norm.astype(dtype) for norm in norms]), norm_type)


_total_norm = jax.jit(_norm_of_all, static_argnums=1, inline=True)


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def _is_whole(leaf: Any) -> bool:
    return trees.is_missing(leaf) or is_sparse(leaf)


def _arrays(tree: Any) -> list[jax.Array]:
    """Return the arrays of a tree; those that say that a gradient is missing are left out."""
    arrays = []
    for path, leaf in jax.tree.leaves_with_path(tree, is_leaf=_is_whole):
        if trees.is_missing(leaf):
            continue
        array = jnp.asarray(leaf) if trees.is_number_or_array(leaf) else None
        if array is None or not jnp.issubdtype(array.dtype, jnp.inexact):
            kind = f"a {type(leaf).__name__}" if array is None else f"an array of {array.dtype}"
            dense = "; pass its todense()" if is_sparse(leaf) else ""
            raise TypeError(
                f"get_total_norm(): {trees.label(path)} is no array of gradients, but {kind}{dense}"
            )
        arrays.append(array)
    return arrays
