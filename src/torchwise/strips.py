"""A step in strips: how a large parameter is stepped on CPU.

On CPU a kernel has one output, so states and parameter are computed in two passes over the inputs.
In a loop over strips that fit into the cache, the second pass finds its inputs there, and arrays
are read from memory once. The loop writes into the old arrays, if the caller has donated them.

A strip is flat and the loop begins with arrays that have been computed. So what has produced a
gradient cannot take part in the step, and nothing has to be pinned on entry.
"""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from torchwise.leaf import Leaf, accumulate, conclude, with_numbers
from torchwise.sparse import Rows

# Measured on CPU with SGD, Adagrad and AdamW: strips of half and of twice this size are slower.
STRIP_BYTES = 2**16
# Below this size the loop costs more to compile than it saves in a step.
LEAST_BYTES = 2**20


def fit(leaf: Leaf, size_of_all: int) -> bool:
    """Whether strips are the faster form for a parameter, on CPU.

    A loop runs on one core, and the loops of several parameters run at the same time. A parameter
    so large that the other cores would wait for its loop is left to XLA, which divides a kernel
    among them.

    Args:
        leaf: the parameter with all that its step needs.
        size_of_all: how many elements there are in all parameters that this program steps.
    """
    param = leaf.param
    return (
        not isinstance(leaf.grad, Rows)
        and param.nbytes >= LEAST_BYTES
        and param.size * _cores() <= size_of_all
        and all(part.in_strips for part in leaf.parts)
        and all(state.shape in ((), param.shape) for state in jax.tree.leaves(leaf.states))
        and _one_cpu_device()
    )


def step(leaf: Leaf) -> tuple[jax.Array, tuple[Any, ...]]:
    """Return the new parameter and the new states."""
    leaf = with_numbers(leaf)
    shape, length = leaf.param.shape, _strip_length(leaf.param)
    count, rest = divmod(leaf.param.size, length)
    grad = leaf.grad.reshape(-1)
    olds, treedef = jax.tree.flatten((leaf.param, leaf.states))

    def read(buffers: list[jax.Array], numbers: list[jax.Array], start: Any, size: int) -> Leaf:
        """Return a strip as a parameter of its own; states of one number are not cut."""
        values = [_cut(b, start, size) if b.ndim else x for b, x in zip(buffers, numbers)]
        param, states = treedef.unflatten(values)
        return leaf._replace(grad=_cut(grad, start, size), param=param, states=states)

    def step_strip(start: Any, size: int, held: Held) -> Held:
        first = read(held.buffers, olds, start, size)
        held = _write(held, first, (first.param, accumulate(first)), start)
        # Without the barrier XLA would compute the states again for the second pass, from old
        # ones, and would have to keep a copy of those.
        held = lax.optimization_barrier(held)
        second = read(held.buffers, held.buffers, start, size)
        return _write(held, second, conclude(second, second.param, second.states), start)

    buffers = [old.reshape(-1) if old.shape == shape else old for old in olds]
    entangled = any(part.entangled for part in leaf.parts)
    aside = [jnp.zeros(length + 1, old.dtype) for old in olds] if entangled else []
    held = Held(buffers, aside)
    held = lax.fori_loop(0, count, lambda i, held: step_strip(i * length, length, held), held)
    if rest:
        held = step_strip(count * length, rest, held)
    return treedef.unflatten([new.reshape(old.shape) for new, old in zip(held.buffers, olds)])


class Held(NamedTuple):
    """What the loop carries.

    Attributes:
        buffers: the flat parameter and its flat states; states of one number as they are.
        aside: for each of them room for one strip, or nothing.
    """

    buffers: list[jax.Array]
    aside: list[jax.Array]


def _cut(x: jax.Array, start: Any, size: int) -> jax.Array:
    return lax.dynamic_slice(x, (start,), (size,))


def _write(held: Held, strip: Leaf, new: Any, start: Any) -> Held:
    """Put what has changed of a strip, its parameter and its states, into the buffers.

    XLA would copy an array that one kernel still has to read while another, for all that XLA knows,
    writes it. So each index depends on what has to be read first. The last state comes first, since
    it may depend on the old values of those before it, as the maximum of AMSGrad does. New values
    that depend on each other's old ones are set aside before the first of them is written.
    """
    buffers, aside = list(held.buffers), list(held.aside)
    olds = jax.tree.leaves((strip.param, strip.states))
    values = jax.tree.leaves(new)
    flat = []
    for index, (old, value) in enumerate(zip(olds, values)):
        if not buffers[index].ndim:  # also if it is the old one: the strip before has written it
            buffers[index] = value
        elif value is not old:
            flat.insert(0, index)
    later = flat[1:] if aside else []
    for index in later:
        aside[index] = lax.dynamic_update_slice(aside[index], values[index], (0,))
        start = start + _zero(aside[index], 0)
    for index in flat:
        value = values[index]
        if index in later:
            value = _cut(aside[index], _zero(buffers[flat[0]], start), value.size)
        buffers[index] = lax.dynamic_update_slice(buffers[index], value, (start,))
        start = start + _zero(buffers[index], start)
    return Held(buffers, aside)


def _zero(x: jax.Array, start: Any) -> jax.Array:
    """Return 0 so that XLA takes it for something that depends on a number of an array."""
    number = lax.dynamic_slice(x, (start,), (1,))[0].real
    bits = lax.bitcast_convert_type(number, f"uint{number.dtype.itemsize * 8}")
    sign = lax.shift_right_logical(bits, lax.full_like(bits, number.dtype.itemsize * 8 - 1))
    return lax.shift_right_logical(sign, lax.full_like(bits, 1)).astype("int32")


def _strip_length(param: jax.Array) -> int:
    """Return a length that leaves no rest, if there is one that is not much shorter."""
    longest = STRIP_BYTES // param.dtype.itemsize
    least = -(-param.size // longest)
    for count in range(least, 2 * least):
        if param.size % count == 0:
            return param.size // count
    return longest


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _one_cpu_device() -> bool:
    """Whether no array can be divided among CPU devices; flattening would move its parts."""
    try:
        return jax.device_count("cpu") == 1
    except RuntimeError:  # JAX has been told to use other platforms alone
        return False
