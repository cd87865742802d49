"""What the calls that read and write state dicts take besides the dict, checked in one place."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax

from torchwise.passing_order import is_sequence, passing_order
from torchwise.state_dict.layout import Layout, is_ignored
from torchwise.state_dict.matching import Leaves
from torchwise.states import ChainState
from torchwise.structure import named
from torchwise.trees import refuse_statics

Names = Iterable[str] | Iterable[Sequence[str]]


def checked_layout(
    call: str, params: Any, names: Any, order: str | None, prefix: str, layout: Layout
) -> Layout:
    """Return the layout with the prefix.

    Raises:
        TypeError, ValueError: for arguments of other kinds.
    """
    if params is None:
        raise ValueError(f"{call}(): params is None: pass the tree of parameters")
    if isinstance(params, ChainState):
        raise TypeError(f"{call}(): params is a state: pass the tree of parameters")
    refuse_statics(call, params)
    if isinstance(names, str) or not isinstance(names, Iterable | None):
        raise TypeError(
            f"{call}(): names is {named(names)}: pass a list of torch's names, as that of "
            "model.named_parameters()"
        )
    if order not in (None, "given"):
        raise ValueError(f'{call}(): order is {order!r}: pass None or "given"')
    if not isinstance(prefix, str):
        raise TypeError(f"{call}(): prefix is {named(prefix)}: pass a string")
    if not isinstance(layout, Layout):
        raise TypeError(f"{call}(): layout is {named(layout)}: pass a torchwise.Layout")
    return layout._replace(prefix=f"{prefix}{layout.prefix}")


def leaves_of(params: Any, layout: Layout) -> Leaves:
    """Return the leaves of a tree with their places and their order."""
    return Leaves(layout.places(params), passing_order(params), is_sequence(params))


def without_frozen(params: Any, layout: Layout, frozen: Sequence[str]) -> tuple[Any, set[str]]:
    """Return the tree with None for each frozen leaf, and torch's names of those.

    Args:
        params: the tree.
        layout: gives torch's names.
        frozen: patterns of torch's names or of paths.

    Raises:
        TypeError: if `frozen` is one string.
        ValueError: if a pattern matches nothing.
    """
    if isinstance(frozen, str):
        raise TypeError("from_state_dict(): frozen is a str: pass a list of patterns")
    if not frozen:
        return params, set()
    places = layout.places(params)

    def among(patterns: Sequence[str]) -> list[bool]:
        matching = Layout(ignore=patterns)
        return [is_ignored(one.name, matching) or is_ignored(one.path, matching) for one in places]

    idle = [pattern for pattern in frozen if not any(among([pattern]))]
    if idle:
        raise ValueError(f"from_state_dict(): frozen: nothing has a name like {idle}")
    left_out = among(frozen)
    leaves, structure = jax.tree.flatten(params)
    kept = [None if out else leaf for leaf, out in zip(leaves, left_out)]
    names = {place.name for place, out in zip(places, left_out) if out}
    return structure.unflatten(kept), names
