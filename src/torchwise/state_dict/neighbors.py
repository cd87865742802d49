"""What stands around a chain in optax, and whether torch's state dict can do without it."""

import functools
import inspect
from typing import Any

import jax
import numpy as np

_HARMLESS = {"identity", "set_to_zero"}
_REMEDIES = {"add_decayed_weights": "pass weight_decay= to the optimizer"}


def name_of(init: Any, update: Any) -> str:
    """Return the name of the function of optax, or of anybody, that made a transformation."""
    while getattr(update, "__qualname__", "").startswith("with_extra_args_support."):
        update = inspect.getclosurevars(update).nonlocals["tx"].update
    function = update.func if isinstance(update, functools.partial) else update
    owner = getattr(function, "__self__", None)
    if owner is not None:
        return type(owner).__name__
    function = function if hasattr(function, "__qualname__") else init
    return getattr(function, "__qualname__", type(function).__name__).split(".")[0]


def refuse_neighbor(kind: str, init: Any, update: Any, state: Any, place: str) -> None:
    """Raise for a transformation that torch's optimizer would have to do, and cannot.

    Before the optimizer, what changes gradients and remembers none of them is the business of the
    training loop in torch, too, as clipping is.

    Args:
        kind: the function of optax that put it there.
        init: the function of the transformation.
        update: likewise.
        state: of the transformation.
        place: "before" or "behind" the optimizer, or "beside" it, for parameters of its own.

    Raises:
        ValueError: naming it.
    """
    name = name_of(init, update)
    if name == "masked":
        inner = inspect.getclosurevars(init).nonlocals["inner"]
        name = name_of(inner.init, inner.update)
    remembers = any(np.ndim(leaf) for leaf in jax.tree.leaves(state))
    if name in _HARMLESS or (place == "before" and not remembers and name not in _REMEDIES):
        return
    what = "its state" if remembers else "it"
    remedy = f"; {_REMEDIES[name]}" if name in _REMEDIES else ""
    raise ValueError(
        f"to_state_dict(): {name} stands {place} the optimizer in optax.{kind}, and torch has no "
        f"place for {what}{remedy}"
    )
