"""Refuses what is no model of a library: types alone say what a model's arrays are."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torchwise.layouts.layer import Array


class _Library(NamedTuple):
    """Where a library has its base classes of modules, which nobody has to install."""

    title: str
    package: str
    bases: frozenset[str]


_LIBRARIES = {
    "equinox": _Library("Equinox", "equinox.", frozenset({"Module"})),
    "flax_nnx": _Library("Flax NNX", "flax.nnx.", frozenset({"Module", "Pytree"})),
    "flax_linen": _Library("Flax Linen", "flax.linen.", frozenset({"Module"})),
}


def require_modules(call: str, model: Any, arrays: Sequence[Array] = ()) -> None:
    """Refuse a model that neither is nor holds a module of the library.

    Args:
        call: the function's name, which says the library.
        model: what was passed.
        arrays: those in it, with their owners.

    Raises:
        TypeError: saying what to pass, and where the modules are another library's, what to call.
    """
    nodes = [model, *(owner for array in arrays for owner in array.owners)]
    if any(_is_module(node, call) for node in nodes):
        return
    others = [
        f"; for a model of {library.title}, call {name}()"
        for name, library in _LIBRARIES.items()
        if any(_is_module(node, name) for node in nodes)
    ]
    got = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
    raise TypeError(
        f"{call}(): got {got}, in which there is no module of {_LIBRARIES[call].title}: pass the "
        f"module itself, whose types say what its arrays are{''.join(others)}"
    )


def _is_module(node: Any, call: str) -> bool:
    _, package, bases = _LIBRARIES[call]
    return any(
        one.__name__ in bases and one.__module__.startswith(package) for one in type(node).__mro__
    )
