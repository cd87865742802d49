"""A value that the compiler can neither see through nor merge with what comes after it.

XLA and LLVM contract a product and a sum to one fused multiply-add, and replace quotients by
products with reciprocals. Where torch rounds in between, the value is pinned. On CPU no barrier and
no bit cast has this effect, since neither leaves an operation behind for LLVM. What does is the
subtraction of a zero that the compiler does not know. It changes no number, and behind a product it
takes no time: LLVM contracts the product with this zero.

A number, and any array on other platforms, passes through a selection, `where(x == x, x, x + x)`.
That needs no zero, but three operations, and the compiler must not be able to prove that `x` is no
NaN.

Source: measurements; `tests/test_rounding.py` holds what is pinned against torch.
"""

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jax.extend.core import Primitive, get_opaque_trace_state
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import ad, batching, mlir

Zeros = dict[str, jax.Array]


class Shared(NamedTuple):
    """What the pins in one part of a program have in common.

    Attributes:
        zeros: by their types.
        given: whether gradients are arguments of the program, and so arrays of their own.
        pinned: what has been pinned, with the result and the trace in which it is known, by the
            identity of either. A loop or a branch has a trace of its own.
    """

    zeros: Zeros
    given: bool
    pinned: dict[int, tuple[jax.Array, jax.Array, Any]]


_shared: ContextVar[Shared | None] = ContextVar("_shared", default=None)

_pin = Primitive("pin")
_beside = Primitive("beside")


def pin(x: jax.Array) -> jax.Array:
    """Return `x`, an array of real numbers, hidden from the compiler; its derivative is one."""
    if not isinstance(x, Tracer):  # outside of a program every operation rounds anyway
        return x
    zeros, _, pinned = _shared.get() or Shared({}, False, {})
    trace = get_opaque_trace_state(convention="torchwise")
    _, result, known_in = pinned.get(id(x), (x, None, None))
    if result is None or known_in != trace:
        result = _pin.bind(x, _zero_for(x, zeros)) if x.ndim else _select(x, x)
        pinned[id(x)] = pinned[id(result)] = x, result, trace
    return result


def beside(x: jax.Array, other: jax.Array) -> jax.Array:
    """Return a factor `x`, hidden, whose product is added to `other` in one operation.

    A product that is the same for many sums the compiler computes once for them, and rounds it: a
    gradient that has been broadcast, or one for all lanes of `jax.vmap`. Reading the summand for
    the factor keeps them together. Where no gradient can be a broadcast, only `jax.vmap` does it.
    """
    if not isinstance(x, Tracer) and not isinstance(other, Tracer):
        return x
    zeros, given, _ = _shared.get() or Shared({}, False, {})
    zero = _zero_for(x if isinstance(x, Tracer) else other, zeros)
    return _beside.bind(pin(x) if given else x, other, zero, given=given)


def _zero_for(x: jax.Array, zeros: Zeros) -> jax.Array:
    name = x.dtype.name
    return zeros[name] if name in zeros else zeros_for([x])[name]


def _hidden_zero() -> jax.Array:
    """Return 0 as a number that the compiler does not know.

    It is the least of three that are sorted, which XLA does in a library. The barrier keeps XLA
    from sorting while it compiles.
    """
    return lax.sort(lax.optimization_barrier(jnp.asarray([7, 0, 3], "int32")))[0]


def zeros_for(values: Iterable[Any]) -> Zeros:
    """Return a zero for each type in which the traced arrays among these values are pinned."""
    traced = [value for value in values if isinstance(value, Tracer)]
    real = {jnp.finfo(x.dtype).dtype.name for x in traced if jnp.issubdtype(x.dtype, jnp.inexact)}
    wide = {"float32"} if real & {"bfloat16", "float16"} else set()
    zero = _hidden_zero() if real else None
    with jax.enable_x64(True):
        return {name: zero.astype(name) for name in sorted(real | wide) if zero is not None}


@contextlib.contextmanager
def sharing(zeros: Zeros, given: bool = False) -> Iterator[None]:
    """Let all pins in a part of a program read these zeros.

    What has been pinned in it is not pinned again. Compilation takes the longer the more operations
    there are, and an optimizer pins ten times in each step of a parameter.

    Args:
        zeros: by their types; for others, each pin makes one.
        given: whether gradients are arguments of the program.
    """
    token = _shared.set(Shared(zeros, given, {}))
    try:
        yield
    finally:
        _shared.reset(token)


def _lower_to_difference(ctx: Any, x: Any, zero: Any) -> Any:
    aval, _ = ctx.avals_in
    if not all(isinstance(size, int) for size in aval.shape):  # a size that is not known yet
        return _select_itself(ctx, x, zero)
    zeros = stablehlo.broadcast_in_dim(x.type, zero, mlir.dense_int_array([]))
    return [stablehlo.subtract(x, zeros)]


def _select(x: Any, other: Any) -> Any:
    return lax.select(lax.eq(x, x), x, lax.add(x, other))


def _combine(x: Any, other: Any, zero: Any) -> Any:
    """Return `x | (other & 0)`, of their bits."""
    bits = f"uint{8 * x.dtype.itemsize}"
    with jax.enable_x64(True):
        values = (lax.bitcast_convert_type(value, bits) for value in (x, other, zero))
        x_bits, other_bits, zero_bits = values
        nothing = lax.bitwise_and(other_bits, lax.broadcast(zero_bits, x.shape))
        return lax.bitcast_convert_type(lax.bitwise_or(x_bits, nothing), x.dtype)


def _lower_beside(ctx: Any, x: Any, other: Any, zero: Any, *, given: bool) -> Any:
    return [x] if given else _combination(ctx, x, other, zero)


def _map_beside(arrays: Any, axes: Any, *, given: bool) -> Any:
    """With all axes at the front; where `x` is the same for all lanes, it is combined for each."""
    (x, other, zero), (axis, axis_of_other, _) = arrays, axes
    size = other.shape[axis_of_other] if axis is None else x.shape[axis]
    given = given and axis is not None
    lanes, others = (
        lax.broadcast(array, (size,)) if axis is None else jnp.moveaxis(array, axis, 0)
        for array, axis in ((x, axis), (other, axis_of_other))
    )
    return _beside.bind(lanes, others, zero, given=given), 0


_select_itself = mlir.lower_fun(lambda x, zero: _select(x, x), multiple_results=False)
_combination = mlir.lower_fun(_combine, multiple_results=False)

_pin.def_impl(lambda x, zero: x)
_pin.def_abstract_eval(lambda x, zero: x)
mlir.register_lowering(_pin, _select_itself)
mlir.register_lowering(_pin, _lower_to_difference, platform="cpu")
batching.primitive_batchers[_pin] = lambda arrays, axes: (_pin.bind(*arrays), axes[0])
ad.primitive_jvps[_pin] = lambda primals, tangents: (_pin.bind(*primals), tangents[0])

_beside.def_impl(lambda x, other, zero, *, given: x)
_beside.def_abstract_eval(lambda x, other, zero, *, given: x)
mlir.register_lowering(_beside, _lower_beside)
batching.primitive_batchers[_beside] = _map_beside
ad.primitive_jvps[_beside] = lambda primals, tangents, *, given: (
    _beside.bind(*primals, given=given),
    tangents[0],
)
