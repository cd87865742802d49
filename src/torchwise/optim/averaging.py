"""One update of an average: computed in one program, and put in its place."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.averages import is_averaged
from torchwise.optim.engine import copies, donated
from torchwise.optim.parameter import Parameter

Function = Callable[[Any, Any, Any], Any]


def held(leaf: Any, device: Any) -> Any:
    """Return a copy of a leaf: a holder for a parameter, an array, or what is no array."""
    if not isinstance(leaf, jax.Array | np.ndarray):
        return leaf
    copy = jnp.array(leaf) if device is None else jnp.array(jax.device_put(leaf, device))
    return Parameter(copy) if is_averaged(copy) else copy


class Averaging:
    """An update of an average; see `transaction`.

    Args:
        leaves: of the average, from `held`.
        values: the leaves of the model to take in.
        count: how many models there have been.
        average: computes new averages of lists of arrays.
        use_buffers: whether arrays without a holder are averaged as well.
        keep: whether the old arrays must survive, since the program may fail.
        done: takes the new leaves.
    """

    def __init__(
        self,
        leaves: Sequence[Any],
        values: Sequence[Any],
        *,
        count: int,
        average: Function,
        use_buffers: bool,
        keep: bool,
        done: Callable[[list[Any]], None],
    ) -> None:
        self._new: list[Any] = []
        self._leaves, self._values = leaves, values
        self._count, self._average, self._keep, self._done = count, average, keep, done
        self._averaged = [
            index
            for index, leaf in enumerate(leaves)
            if isinstance(leaf, Parameter) or (use_buffers and isinstance(leaf, jax.Array))
        ]

    def prepare(self) -> tuple[Callable[..., Any], Sequence[Any]]:
        """Return the program and its arguments; what is averaged in place nobody else has."""
        self._new = [
            jnp.array(value, leaf.dtype) if isinstance(leaf, jax.Array) else value
            for leaf, value in zip(self._leaves, self._values)
        ]
        olds = [self._leaves[index] for index in self._averaged]
        values = [
            jnp.asarray(self._values[index]).astype(old.dtype)
            for index, old in zip(self._averaged, olds)
        ]
        if self._count == 0:
            return copies, (values,)
        keep = self._keep or any(isinstance(old, Parameter) and old.foreign for old in olds)
        owned = [isinstance(old, Parameter) and old.owned and not keep for old in olds]
        arrays = [old.own_array if isinstance(old, Parameter) else old for old in olds]
        given = donated(arrays, [not one for one in owned])
        return _advance, (self._average, given, values, np.int32(self._count))

    def commit(self, averages: Sequence[jax.Array]) -> None:
        """Put the new leaves in their places."""
        new = list(self._new)
        for index, array in zip(self._averaged, averages):
            new[index] = array
        leaves = []
        for leaf, made in zip(self._leaves, new):
            if isinstance(leaf, Parameter):
                leaf.replace(made)
            leaves.append(leaf if isinstance(leaf, Parameter) else made)
        self._done(leaves)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _advance(average: Function, olds: Any, values: Any, count: Any) -> list[jax.Array]:
    """Return the new averages; as in torch, arrays of one type go together."""
    new: dict[int, jax.Array] = {}
    for dtype in dict.fromkeys(old.dtype for old in olds):
        indices = [index for index, old in enumerate(olds) if old.dtype == dtype]
        wide = dtype if jnp.issubdtype(dtype, jnp.inexact) else jnp.float32
        pairs = [(olds[index].astype(wide), values[index].astype(wide)) for index in indices]
        found = average([old for old, _ in pairs], [value for _, value in pairs], count)
        new |= {index: jnp.asarray(one).astype(dtype) for index, one in zip(indices, found)}
    return [new[index] for index in range(len(olds))]
