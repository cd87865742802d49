"""What a traced program says about itself: what its results depend on, and whether it may raise."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from torchwise.jaxprs import equations, inner

_MARK = "cotangent_of_the_loss"
_MAY_RAISE = ("callback", "ffi_call", "debug_print")


@functools.partial(jax.jit, static_argnums=0)
def cotangent_of_the_loss(dtype: Any) -> jax.Array:
    """Return the one with which differentiation starts; `dependent` finds it by its name."""
    return jnp.ones((), dtype)


def dependent(jaxpr: Any) -> list[bool]:
    """Return for each result of a jaxpr whether it depends on `cotangent_of_the_loss`.

    A gradient that does not depend on it is zero, whatever the values are: no path that can be
    differentiated leads from the parameter to the loss.
    """
    return _dependent(jaxpr, [False] * len(jaxpr.invars))


def may_raise(jaxpr: Any) -> bool:
    """Whether a program calls Python or foreign code as it runs, which may raise."""
    names = (eqn.primitive.name for eqn in equations(jaxpr))
    return any(part in name for name in names for part in _MAY_RAISE)


def bytes_made(jaxpr: Any) -> int:
    """Return the bytes of all intermediate values, more than a program can need at a time."""
    return sum(_bytes(one.aval) for eqn in equations(jaxpr) for one in eqn.outvars)


def _bytes(aval: Any) -> int:
    size, dtype = getattr(aval, "size", 0), getattr(aval, "dtype", None)
    return int(size) * int(getattr(dtype, "itemsize", 0))


def _dependent(jaxpr: Any, given: Sequence[bool]) -> list[bool]:
    marked = {var for var, one in zip(jaxpr.invars, given) if one}

    def is_marked(var: Any) -> bool:
        return not hasattr(var, "val") and var in marked  # a literal has a value

    for eqn in jaxpr.eqns:
        results = _results(eqn, [is_marked(var) for var in eqn.invars])
        marked |= {var for var, one in zip(eqn.outvars, results) if one}
    return [is_marked(var) for var in jaxpr.outvars]


def _results(eqn: Any, given: list[bool]) -> list[bool]:
    """Return which results of an equation depend; of an unknown one with any argument, all."""
    name, params = eqn.primitive.name, eqn.params
    if params.get("name") == _MARK:
        return [True] * len(eqn.outvars)
    if not any(given) and not any(map(_has_mark, inner(eqn))):
        return [False] * len(eqn.outvars)
    if name == "scan":
        return _loop(params["jaxpr"].jaxpr, given, params["num_consts"], params["num_carry"])
    if name == "while":
        conds, bodies = params["cond_nconsts"], params["body_nconsts"]
        carried = len(given) - conds - bodies
        results = _loop(params["body_jaxpr"].jaxpr, given[conds:], bodies, carried)
        (again,) = _dependent(params["cond_jaxpr"].jaxpr, given[:conds] + results)
        return [again or one for one in results]
    if name == "cond":
        each = [_dependent(branch.jaxpr, given[1:]) for branch in params["branches"]]
        return [given[0] or any(column) for column in zip(*each)]
    inners = list(inner(eqn))
    if len(inners) == 1 and (len(inners[0].invars), len(inners[0].outvars)) == (
        len(given),
        len(eqn.outvars),
    ):
        return _dependent(inners[0], given)
    return [True] * len(eqn.outvars)


def _loop(body: Any, given: list[bool], consts: int, carried: int) -> list[bool]:
    """Return which carries, and results of all iterations, depend: until that grows no more."""
    carry = given[consts : consts + carried]
    while True:
        results = _dependent(body, given[:consts] + carry + given[consts + carried :])
        grown = [a or b for a, b in zip(carry, results)]
        if grown == carry:
            return carry + results[carried:]
        carry = grown


def _has_mark(jaxpr: Any) -> bool:
    return any(eqn.params.get("name") == _MARK for eqn in equations(jaxpr))
