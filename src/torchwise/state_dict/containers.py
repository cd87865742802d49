"""A chain of torchwise inside a transformation of optax, and its state inside the other's."""

import functools
from collections.abc import Iterator
from typing import Any

import jax

from torchwise.transformation import Chain, ChainState, Definition


def chain_within(transform: Any) -> Chain:
    """Return the one chain that a transformation of optax holds.

    optax composes functions: those of a chain are bound to its definition, which is found through
    their closures.

    Raises:
        TypeError: if there is none, or more than one.
    """
    found = {id(one): one for one in _definitions(transform, set())}
    if len(found) != 1:
        what = f"{len(found)} of them" if found else "none"
        raise TypeError(
            "to_state_dict() needs a torchwise chain, a transformation around one, or what "
            f"from_state_dict() returned, but got {type(transform).__name__} with {what}"
        )
    (definition,) = found.values()
    return Chain(definition.transforms, definition.per_parameter_steps)


def state_within(state: Any) -> Any:
    """Return the one chain's state in the state of a transformation around it."""
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, ChainState))
    found = [leaf for leaf in leaves if isinstance(leaf, ChainState)]
    return found[0] if len(found) == 1 else state


def _definitions(value: Any, seen: set[int]) -> Iterator[Definition]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Definition):
        yield value
    elif isinstance(value, functools.partial):
        yield from _definitions((value.func, value.args, value.keywords), seen)
    elif isinstance(value, dict):
        yield from _definitions((*value.values(),), seen)
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _definitions(one, seen)
    elif hasattr(value, "__self__"):  # a bound method, as MultiSteps has
        yield from _definitions(value.__self__, seen)
    elif hasattr(value, "__closure__"):
        for cell in value.__closure__ or ():
            yield from _definitions(cell.cell_contents, seen)
    elif type(value).__module__.startswith("optax."):  # an object, as MultiSteps
        yield from _definitions(vars(value), seen)
