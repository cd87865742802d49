"""The places of a tree of parameters, and other trees that may lack some of them.

Equinox keeps a whole model in one tree: what is filtered out of it has None in its place, and the
rest goes on. So a state may have been made of fewer leaves than the tree that is stepped, or more.
"""

from typing import Any

import jax


class Frame:
    """The structure of a tree of parameters, in which None is a place, too.

    Attributes:
        treedef: of the parameters.
    """

    def __init__(self, params: Any) -> None:
        self._params = params
        self.treedef = jax.tree.structure(params)

    def read(self, tree: Any) -> list[Any] | None:
        """Return what a tree has for each leaf of the parameters: None where it lacks one.

        Returns:
            A list, or None if the containers of the tree are others.
        """
        if jax.tree.structure(tree) == self.treedef:
            return jax.tree.leaves(tree)
        found = self._places(tree)
        if found is None:
            return None
        return [one for one, here in zip(found, self._own()) if here is not None]

    def filled(self, tree: Any, values: list[Any]) -> Any:
        """Return a tree that `read` takes, with these values for the leaves of the parameters.

        What it lacks it goes on lacking, and what the parameters lack stays in it.
        """
        if jax.tree.structure(tree) == self.treedef:
            return self.treedef.unflatten(values)
        rest = iter(values)
        found = self._places(tree)
        assert found is not None
        news = [old if here is None else next(rest) for old, here in zip(found, self._own())]
        kept = [None if old is None else new for old, new in zip(found, news)]
        return jax.tree.structure(self._params, is_leaf=_is_none).unflatten(kept)

    def _own(self) -> list[Any]:
        return jax.tree.leaves(self._params, is_leaf=_is_none)

    def _places(self, tree: Any) -> list[Any] | None:
        try:
            found = jax.tree.structure(self._params, is_leaf=_is_none).flatten_up_to(tree)
        except (TypeError, ValueError):
            return None
        return found if all(map(_is_place, found)) else None


def _is_place(value: Any) -> bool:
    return value is None or jax.tree_util.all_leaves([value])


def _is_none(value: Any) -> bool:
    return value is None
