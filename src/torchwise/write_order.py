"""In which order arrays are written in place that are computed from each other's old values.

Both are read from the program that computes them, and so is whether it takes long.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, NamedTuple

import jax

from torchwise.jaxprs import equations

Positions = frozenset[int]
_NOTHING: Positions = frozenset()


class Turn(NamedTuple):
    """When an array is written.

    Attributes:
        position: of the array, among all of them.
        after: the positions of those that need its old value, and are written before it.
    """

    position: int
    after: tuple[int, ...]


def needs(
    function: Callable[..., Mapping[int, Any]], arrays: Sequence[Any]
) -> dict[int, Positions]:
    """Return from which old arrays each new one is computed.

    Args:
        function: takes arrays, or one number each, and returns the new values of some of them by
            their positions. Numbers are left out of the result.
        arrays: anything with a shape and a dtype.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arrays)
    large = frozenset(position for position, array in enumerate(arrays) if array.ndim)
    needed = _needed(closed.jaxpr, [frozenset([position]) for position in range(len(arrays))])
    pairs = zip(sorted(shapes), needed)
    return {position: olds & large for position, olds in pairs if position in large}


def uses(function: Callable[..., Any], arrays: Sequence[Any], names: Set[str]) -> bool:
    """Whether a function computes an array, and no mere number, with a primitive of these names."""
    program = jax.make_jaxpr(function)(*arrays).jaxpr
    found = (eqn for eqn in equations(program) if eqn.primitive.name in names)
    return any(result.aval.ndim for eqn in found for result in eqn.outvars)


def turns(
    needed: Mapping[int, Positions], earlier: Mapping[int, Positions] | None = None
) -> list[Turn] | None:
    """Return the turns in which every array is written after all that need its old value.

    Args:
        needed: from which old arrays each new one is computed.
        earlier: the same for what has been written before. What an array needs itself comes before
            it in any case.

    Returns:
        The turns in their order; None if two arrays need each other's old values.
    """
    readers = {one: [other for other in needed if one in needed[other] - {other}] for one in needed}
    waiting, found = list(needed), []
    while waiting:
        ready = [one for one in waiting if not any(other in waiting for other in readers[one])]
        if not ready:
            return None
        one = ready[0]
        waiting.remove(one)
        before = [
            other
            for other, olds in (earlier or {}).items()
            if one in olds and other not in needed[one] | {one}
        ]
        found.append(Turn(one, (*before, *readers[one])))
    return found


def _needed(jaxpr: Any, given: Sequence[Positions]) -> list[Positions]:
    """Return what the results need, where it is known for the arguments.

    A jaxpr is read as `jax.make_jaxpr` prints it; nothing private of JAX is asked.
    """
    known = dict(zip(jaxpr.invars, given))

    def of(var: Any) -> Positions:
        return _NOTHING if hasattr(var, "val") else known.get(var, _NOTHING)  # a literal has `val`

    for eqn in jaxpr.eqns:
        known |= zip(eqn.outvars, _results(eqn, [of(var) for var in eqn.invars]))
    return [of(var) for var in jaxpr.outvars]


def _results(eqn: Any, given: list[Positions]) -> list[Positions]:
    """Return what the results of an equation need: as a rule, each of them all arguments."""
    name, params = eqn.primitive.name, eqn.params
    if name == "optimization_barrier":
        return given
    if name in ("jit", "pjit"):
        return _needed(params["jaxpr"].jaxpr, given)
    if name == "cond":
        branches = [_needed(branch.jaxpr, given[1:]) for branch in params["branches"]]
        return [given[0].union(*column) for column in zip(*branches)]
    return [_NOTHING.union(*given)] * len(eqn.outvars)
