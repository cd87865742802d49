"""Gradients of a batch too large for memory, summed up over micro batches."""

import itertools
import math
import operator
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from torchwise.placement import as_varying
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
            it; `jax.grad` will do, and so will `has_aux` with auxiliary values that add up. What
            `allow_int=True` gives for integers stays as it is.
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
    if not hasattr(num_micro_batches, "__index__"):
        raise TypeError(
            f"accumulate_gradients(): num_micro_batches is {num_micro_batches!r}: pass an integer"
        )
    count = operator.index(num_micro_batches)
    if count < 1:
        raise ValueError(f"num_micro_batches must be at least 1, but is {count}")
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction must be 'sum' or 'mean', but is {reduction!r}")

    def accumulated(params: Any, batch: Any, *rest: Any) -> Any:
        micro_batches = _split(batch, count)

        def one(micro_batch: Any) -> Any:
            return value_and_grad(params, micro_batch, *rest)

        first = jax.tree.map(lambda leaf: leaf[0], micro_batches)
        jaxpr, shapes = jax.make_jaxpr(one, return_shape=True)(first)
        if any(map(is_sparse, jax.tree.leaves(shapes, is_leaf=is_sparse))):
            raise TypeError(
                "accumulate_gradients() adds up arrays, but a gradient is sparse: concatenate the "
                "data and the indices of the micro batches"
            )
        types, treedef = jaxpr.out_avals, jax.tree.structure(shapes)
        adds = [kind.dtype != jax.dtypes.float0 for kind in types]

        def add(sums: list[jax.Array], micro_batch: Any) -> tuple[list[jax.Array], None]:
            terms = itertools.compress(jax.tree.leaves(one(micro_batch)), adds)
            return list(map(jnp.add, sums, terms)), None

        start = list(map(_nothing, itertools.compress(types, adds)))
        sums, _ = lax.scan(add, start, micro_batches)
        done = iter(sums if reduction == "sum" else [leaf / count for leaf in sums])
        # The gradient of an integer has no elements to add up.
        return treedef.unflatten(
            [
                next(done) if some else np.zeros(kind.shape, kind.dtype)
                for kind, some in zip(types, adds)
            ]
        )

    return accumulated


def _nothing(like: Any) -> jax.Array:
    """Minus zero, so that a first term of minus zero stays one; of the type, `like` in all.

    On explicit devices the sharding is part of the type of a sum; inside `shard_map`, over which of
    the devices it varies.
    """
    start = jnp.full(like.shape, -0.0, like.dtype)
    if _is_explicit(like):
        return jax.reshard(start, like.sharding.spec)
    return as_varying(like, start)


def _is_explicit(like: Any) -> bool:
    return AxisType.Explicit in like.sharding.mesh.axis_types


def _cut(leaf: Any, count: int) -> jax.Array:
    """Return an array with a leading axis of micro batches, each on all devices of the batch."""
    size, *rest = jnp.shape(leaf)
    kind = jax.typeof(leaf)
    if not _is_explicit(kind):
        return jnp.reshape(leaf, (count, size // count, *rest))
    axes, *others = kind.sharding.spec
    names = axes if isinstance(axes, tuple) else (axes,) if axes else ()
    devices = math.prod(kind.sharding.mesh.shape[name] for name in names)
    spec = PartitionSpec(None, None if size // count % devices else axes, *others)
    return jnp.reshape(leaf, (count, size // count, *rest), out_sharding=spec)


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
    return treedef.unflatten([_cut(leaf, count) for _, leaf in entries])
