"""Gradients of a batch too large for memory, summed up over micro batches."""

import operator
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from torchwise.sparse import is_sparse


def accumulate_gradients(
    value_and_grad: Callable[..., Any],
    num_micro_batches: int,
    reduction: Literal["sum", "mean"] = "sum",
) -> Callable[..., Any]:
    """Evaluate `value_and_grad` on one micro batch after the other, and add up what it returns.

    The result is pure: jit it together with the update. The program is as large as that of one
    micro batch, and so is its memory, but for one set of sums in the gradients' own types.

    Args:
        value_and_grad: `(params, batch, *rest) -> tree of arrays`, as `jax.value_and_grad` returns
            it; `jax.grad` will do, and so will `has_aux` with auxiliary values that add up.
        num_micro_batches: how many equal parts the leading axis of every array of the batch is cut
            into, in order. Random keys that are to differ belong into the batch.
        reduction: "sum", as Dragon's `accumulate_grad()` and torch's `backward()` add up gradients,
            or "mean": for a loss that is a mean, what the undivided batch gives.

    Returns:
        A function of the arguments of `value_and_grad`; `rest` is the same for every micro batch.

    Raises:
        TypeError: by the returned function, if a gradient is sparse.
        ValueError: for a number of micro batches below 1 or an unknown reduction; by the returned
            function, naming every array whose leading axis cannot be cut.

    Examples:
        >>> import jax, jax.numpy as jnp, torchwise
        >>> loss = lambda weight, batch: jnp.mean((batch - weight) ** 2)
        >>> step = torchwise.accumulate_gradients(jax.value_and_grad(loss), 2, "mean")
        >>> value, grad = jax.jit(step)(jnp.zeros(()), jnp.array([1.0, 2.0, 3.0, 4.0]))
        >>> float(value), float(grad)
        (7.5, -5.0)
    """
    count = operator.index(num_micro_batches)
    if count < 1:
        raise ValueError(f"num_micro_batches must be at least 1, but is {count}")
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction must be 'sum' or 'mean', but is {reduction!r}")

    def accumulated(params: Any, batch: Any, *rest: Any) -> Any:
        micro_batches = _split(batch, count)

        def add(sums: Any, micro_batch: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, sums, value_and_grad(params, micro_batch, *rest)), None

        first = jax.tree.map(lambda leaf: leaf[0], micro_batches)
        shapes = jax.eval_shape(lambda part: value_and_grad(params, part, *rest), first)
        if any(map(is_sparse, jax.tree.leaves(shapes, is_leaf=is_sparse))):
            raise TypeError(
                "accumulate_gradients() adds up arrays, but a gradient is sparse: concatenate the "
                "data and the indices of the micro batches"
            )
        start = jax.tree.map(_nothing, shapes)
        sums, _ = lax.scan(add, start, micro_batches)
        return sums if reduction == "sum" else jax.tree.map(lambda leaf: leaf / count, sums)

    return accumulated


def _nothing(like: jax.ShapeDtypeStruct) -> jax.Array:
    """Minus zero, so that a first term of minus zero stays one."""
    return jnp.full(like.shape, -0.0, like.dtype)


def _split(batch: Any, count: int) -> Any:
    entries, treedef = jax.tree.flatten_with_path(batch)
    problems = [
        f"batch{jax.tree_util.keystr(path)} of shape {jnp.shape(leaf)}"
        for path, leaf in entries
        if not jnp.shape(leaf) or jnp.shape(leaf)[0] % count
    ]
    if problems or not entries:
        raise ValueError(
            f"accumulate_gradients(): cannot cut the leading axis into {count} equal micro batches "
            f"of {', '.join(problems) or 'a batch without arrays'}"
        )
    parts = [
        jnp.reshape(leaf, (count, jnp.shape(leaf)[0] // count, *jnp.shape(leaf)[1:]))
        for _, leaf in entries
    ]
    return treedef.unflatten(parts)
