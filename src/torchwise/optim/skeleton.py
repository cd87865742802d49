"""A tree of parameters, taken apart so that its arrays can be arguments of a compiled function."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from torchwise.optim.parameter import Parameter


class Differentiated(NamedTuple):
    """A leaf that is a parameter, by its position."""

    position: int


class Given(NamedTuple):
    """A leaf that is another array, by its position."""

    position: int


class Static(tuple):  # of what it is compared by
    """A leaf that is no array, compared by identity if it cannot be hashed.

    It is a tuple so that C code compares it and hashes it: JAX does so when it looks for a program,
    and would turn what interrupts Python code there into a ValueError.
    """

    value: Any

    def __new__(cls, value: Any) -> "Static":
        """Make one of any value."""
        try:
            hash(value)
            made = super().__new__(cls, (type(value), value))
        except TypeError:
            made = super().__new__(cls, (id(value),))
        made.value = value
        return made


class Skeleton(NamedTuple):
    """How to put a tree together inside a compiled function; hashable.

    Attributes:
        treedef: the structure of the tree.
        sources: where each leaf comes from.
    """

    treedef: Any
    sources: tuple[Differentiated | Given | Static, ...]

    def fill(self, differentiated: Sequence[Any], given: Sequence[Any]) -> Any:
        """Return the tree with its arrays."""
        leaves = []
        for source in self.sources:
            if isinstance(source, Static):
                leaves.append(source.value)
            else:
                arrays = differentiated if isinstance(source, Differentiated) else given
                leaves.append(arrays[source.position])
        return self.treedef.unflatten(leaves)

    def permuted(self, positions: Sequence[int]) -> "Skeleton":
        """Return the same for arrays in another order: each one's new position."""
        if list(positions) == list(range(len(positions))):
            return self
        moved = (
            Differentiated(positions[source.position])
            if isinstance(source, Differentiated)
            else source
            for source in self.sources
        )
        return Skeleton(self.treedef, tuple(moved))


def skeleton_of(
    tree: Any, differentiated: Sequence[Parameter], numbers: bool = False
) -> tuple[Skeleton, list[Any]]:
    """Return how to rebuild a tree, and the arrays in it that are not differentiated.

    Args:
        tree: holds a `Parameter` in the place of each array that is optimized.
        differentiated: the parameters whose arrays come as the first argument of `fill`.
        numbers: whether numbers are arrays, too; True and False are none.
    """
    arrays = Parameter | jax.Array | np.ndarray
    if numbers:
        arrays = arrays | np.generic | int | float | complex
    leaves, treedef = jax.tree.flatten(tree)
    position = {parameter: index for index, parameter in enumerate(differentiated)}
    sources, given = [], []
    for leaf in leaves:
        if isinstance(leaf, Parameter) and leaf in position:
            sources.append(Differentiated(position[leaf]))
        elif isinstance(leaf, arrays) and not isinstance(leaf, bool):
            sources.append(Given(len(given)))
            given.append(leaf.own_array if isinstance(leaf, Parameter) else leaf)
        else:
            sources.append(Static(leaf))
    return Skeleton(treedef, tuple(sources)), given
