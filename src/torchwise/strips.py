"""A step in strips: how a large parameter is stepped on CPU.

On CPU a kernel has one output, so states and parameter are computed one after the other. In a loop
over strips that fit into the cache, all but the first kernel find their inputs there, and arrays
are read from memory once. The loop writes into the old arrays, if the caller has donated them.

Divisions and roots take as long as memory. A parameter that needs them to move is moved first, from
the old states, so that the processor divides while it waits for memory. The states follow from what
is in the cache then. Otherwise, and where a state needs the old parameter, states come first.

The loops of several parameters run at the same time if they share no memory. XLA gives the
temporaries of one loop to the next one, which then waits. So a loop has none: whatever it computes
is carried, also where a strip begins and whether there is another one.

A strip is flat and the loop begins with arrays that have been computed. So what has produced a
gradient cannot take part in the step, and nothing has to be pinned on entry.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from torchwise.leaf import Leaf, accumulate, conclude, with_numbers
from torchwise.sparse import Rows
from torchwise.write_order import Turn, needs, turns, uses

# Measured on CPU with SGD, Adagrad and AdamW: half of it or twice as much is slower for some.
STRIP_BYTES = 2**17
# Measured with the same three: smaller parameters are in a cache anyway.
LEAST_BYTES = 2**18
# XLA vectorizes along a row. Rows of 3 to 16 numbers, as those of kernels of convolutions, take
# longer for that than the same numbers in a strip, which is flat.
SHORT_ROWS = range(3, 17)
LEAST_BYTES_OF_SHORT_ROWS = 2**15
# XLA's executor leaves what is ready to another thread only if it is more than this
# (`kSplitThreshold` of its `ExecuteSession`). Fewer loops run one after the other.
ON_ONE_THREAD = 8
# A start is an unsigned number of 32 bits, which XLA does not test for being negative.
_MOST_ELEMENTS = 2**31
_WRAP = 2**32

# Takes the flat arrays, and where a strip of them begins; returns new strips by position.
Compute = Callable[[Sequence[jax.Array], Any, int], dict[int, jax.Array]]


# What takes much longer than a sum or a product.
_SLOW = {"div", "sqrt", "rsqrt", "pow", "exp", "log"}


class Pass(NamedTuple):
    """A pass over a strip; there are one or two.

    Attributes:
        compute: what it computes.
        turns: in which order it writes; None if new values need each other's old ones.
    """

    compute: Compute
    turns: list[Turn] | None

    def waiting(self) -> int:
        """Return how many places to write depend on what has been read."""
        return 1 if self.turns is None else len({turn.after for turn in self.turns} - {()})


class Carried(NamedTuple):
    """What the loop carries.

    Attributes:
        more: whether there is another strip.
        starts: where the last strip began, for each turn that waits for others, and for the rest.
        buffers: the flat parameter and its flat states; states of one number as they are.
    """

    more: Any
    starts: list[Any]
    buffers: list[jax.Array]


def fit(leaves: Sequence[Leaf]) -> list[bool]:
    """Return for which of the parameters that a program steps strips are the faster form, on CPU.

    A loop runs on one core, and the loops of several parameters run at the same time if they are
    many. Otherwise parameters are left to XLA, which divides a kernel among the cores, except for
    those with short rows.
    """
    size = sum(leaf.param.size for leaf in leaves)
    fitting = [_fits(leaf, size) for leaf in leaves]
    many = sum(fitting) > ON_ONE_THREAD
    return [fits and (many or _rows_are_short(leaf.param)) for leaf, fits in zip(leaves, fitting)]


def _fits(leaf: Leaf, size_of_all: int) -> bool:
    """Whether a parameter can be cut, is large enough, and not too large.

    Too large is one for whose loop the other cores would wait. One without a state of its size has
    one pass anyway.
    """
    param = leaf.param
    return (
        not isinstance(leaf.grad, Rows)
        and _has_the_size(param, size_of_all)
        and param.size < _MOST_ELEMENTS
        and all(part.in_strips for part in leaf.parts)
        and {state.shape for state in jax.tree.leaves(leaf.states)} - {()} == {param.shape}
        and _one_cpu_device()
    )


def _has_the_size(param: jax.Array, size_of_all: int) -> bool:
    if _rows_are_short(param):
        return param.nbytes >= LEAST_BYTES_OF_SHORT_ROWS
    return param.nbytes >= LEAST_BYTES and param.size * _cores() <= size_of_all


def _rows_are_short(param: jax.Array) -> bool:
    *_, row = (1, *(size for size in param.shape if size > 1))
    return row < param.size and row in SHORT_ROWS


def step(leaf: Leaf) -> tuple[jax.Array, tuple[Any, ...]]:
    """Return the new parameter and the new states."""
    leaf = with_numbers(leaf)
    shape, length = leaf.param.shape, _strip_length(leaf.param)
    count, rest = divmod(leaf.param.size, length)
    olds, treedef = jax.tree.flatten((leaf.param, leaf.states))
    buffers = [old.reshape(-1) if old.shape == shape else old for old in olds]
    passes = _passes(leaf._replace(grad=leaf.grad.reshape(-1)), olds, treedef, length)

    def step_next(carried: Carried) -> Carried:
        starts = [_next(start, length) for start in carried.starts]
        more = starts[0] < np.uint32((count - 1) * length)
        return Carried(more, *_step_strip(passes, starts, carried.buffers, length))

    waiting = sum(one.waiting() for one in passes)
    before_first = jnp.asarray(_WRAP - length, "uint32")
    carried = Carried(jnp.asarray(True), [before_first] * (1 + waiting), buffers)
    carried = lax.while_loop(lambda carried: carried.more, step_next, carried)
    buffers = carried.buffers
    if rest:
        starts = [np.uint32(count * length)] * (1 + waiting)
        _, buffers = _step_strip(passes, starts, buffers, rest)
    return treedef.unflatten([new.reshape(old.shape) for new, old in zip(buffers, olds)])


def _passes(leaf: Leaf, olds: Sequence[Any], treedef: Any, length: int) -> list[Pass]:
    """Return the passes over a strip; `olds` are the parameter and the states at the start."""

    def read(buffers: Sequence[Any], numbers: Sequence[Any], start: Any, size: int) -> Leaf:
        """Return a strip as a parameter of its own; states of one number are not cut."""
        values = [_cut(b, start, size) if b.ndim else x for b, x in zip(buffers, numbers)]
        param, states = treedef.unflatten(values)
        return leaf._replace(grad=_cut(leaf.grad, start, size), param=param, states=states)

    def advance(buffers: Sequence[Any], start: Any, size: int) -> dict[int, Any]:
        strip = read(buffers, olds, start, size)
        return _changed(strip, (strip.param, accumulate(strip)))

    def move(buffers: Sequence[Any], start: Any, size: int) -> dict[int, Any]:
        strip = read(buffers, buffers, start, size)
        return _changed(strip, conclude(strip, strip.param, strip.states))

    def advance_and_move(buffers: Sequence[Any], start: Any, size: int) -> dict[int, Any]:
        strip = read(buffers, olds, start, size)
        states = accumulate(strip)
        return _changed(strip, conclude(strip._replace(states=states), strip.param, states))

    def on_strips(compute: Compute) -> Callable[..., Any]:
        return lambda *strips: compute(strips, np.uint32(0), length)

    strips = [jax.ShapeDtypeStruct((length,) if old.ndim else (), old.dtype) for old in olds]
    if uses(on_strips(move), strips, _SLOW):
        order = turns(needs(on_strips(advance_and_move), strips))
        if order is not None:
            return [Pass(advance_and_move, order)]
    first, second = needs(on_strips(advance), strips), needs(on_strips(move), strips)
    return [Pass(advance, turns(first)), Pass(move, turns(second, first))]


def _changed(strip: Leaf, new: Any) -> dict[int, Any]:
    """Return the new values by position; numbers also if they are the old ones.

    The strip before has written those.
    """
    pairs = zip(jax.tree.leaves((strip.param, strip.states)), jax.tree.leaves(new))
    return {
        position: value
        for position, (old, value) in enumerate(pairs)
        if value is not old or not value.ndim
    }


def _step_strip(
    passes: Sequence[Pass], starts: Sequence[Any], buffers: list[jax.Array], size: int
) -> tuple[list[Any], list[jax.Array]]:
    """Return where the strip began for each turn, and the buffers with the strip replaced."""
    start, *waiting = starts
    used = [start]

    def later(read: Sequence[jax.Array]) -> Any:
        """Return the same start in a way that XLA has to wait for what has been read."""
        used.append(waiting.pop(0) + sum(map(_zero, read)))
        return used[-1]

    for one in passes:
        # Without the barrier XLA would compute the states again for the second pass, from old
        # ones, and would have to keep a copy of those.
        buffers = lax.optimization_barrier(buffers)
        values = one.compute(buffers, start, size)
        numbers = {position: value for position, value in values.items() if not value.ndim}
        # XLA would copy an array that one kernel still has to read while another, for all that XLA
        # knows, writes it. So the place to write depends on what has to be read before.
        if one.turns is None:
            aside = {position: value for position, value in values.items() if value.ndim}
            at = later(list(aside.values()))
            for position, value in aside.items():
                buffers[position] = _put(buffers[position], value, at)
        places: dict[tuple[int, ...], Any] = {(): (start, values)}
        for turn in one.turns or ():
            if turn.after not in places:
                at = later([buffers[other] for other in turn.after])
                places[turn.after] = at, one.compute(buffers, at, size)
            at, computed = places[turn.after]
            buffers[turn.position] = _put(buffers[turn.position], computed[turn.position], at)
        for position, number in numbers.items():
            buffers[position] = number
    return used, buffers


def _cut(x: jax.Array, start: Any, size: int) -> jax.Array:
    return lax.dynamic_slice(x, (start,), (size,))


def _next(start: Any, length: int) -> jax.Array:
    """Return where the next strip begins.

    The remainder changes nothing. XLA takes it for expensive and computes it once; a mere sum would
    be computed again in each kernel that needs it, from a number that has to be kept for that.
    """
    return lax.rem(start + np.uint32(length), np.uint32(_WRAP - 1))


def _put(x: jax.Array, strip: jax.Array, start: Any) -> jax.Array:
    return lax.dynamic_update_slice(x, strip, (start,))


def _zero(x: jax.Array) -> jax.Array:
    """Return 0 so that XLA takes it for something that depends on a number of an array."""
    number = x[0].real
    bits = lax.bitcast_convert_type(number, f"uint{number.dtype.itemsize * 8}")
    sign = lax.shift_right_logical(bits, lax.full_like(bits, number.dtype.itemsize * 8 - 1))
    return lax.shift_right_logical(sign, lax.full_like(bits, 1)).astype("uint32")


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
