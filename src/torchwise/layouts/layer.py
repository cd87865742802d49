"""What a layout is made of: the layers of a model, and what torch has for each of their arrays."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torchwise.state_dict.layout import Axes, Rearrangement
from torchwise.state_dict.splits import Split

Shape = tuple[int, ...]


class Array(NamedTuple):
    """An array of a model.

    Attributes:
        path: dotted, in the tree.
        keys: the parts of the path.
        owners: for each key, what it is looked up in.
        shape: of the array.
    """

    path: str
    keys: tuple[str, ...]
    owners: Sequence[Any]
    shape: Shape


class Layer(NamedTuple):
    """A layer of a library, or a module of the user's own.

    Attributes:
        kind: the name of the library's class; empty for a module of the user's own.
        owner: the module.
        keys: where it is.
        owners: for each of these keys, what it is looked up in.
        arrays: what it has, by the dotted path below it: "kernel", "query.kernel".
    """

    kind: str
    owner: Any
    keys: tuple[str, ...]
    owners: Sequence[Any]
    arrays: Mapping[str, Array]

    @property
    def path(self) -> str:
        """Dotted."""
        return ".".join(self.keys)

    def shape(self, array: str) -> Shape:
        """Return the shape of one of its arrays.

        Raises:
            UndescribedError: if the layer does not have it.
        """
        if array not in self.arrays:
            raise UndescribedError(f"without {array!r}: pass the whole model")
        return self.arrays[array].shape


class Here(NamedTuple):
    """What torch has for an array: a name below that of the layer, and where its axes are."""

    name: str
    axes: Axes | Rearrangement | None = None


class Counterpart(NamedTuple):
    """What torch has for a layer: for each of its arrays, and where several are one."""

    arrays: Mapping[str, Here]
    splits: Sequence[Split] = ()


class UndescribedError(ValueError):
    """Says why torch has nothing like a layer."""


def layers_of(
    arrays: Iterable[Array],
    kind: Callable[[Any], str],
    whole: Callable[[str, str], bool],
) -> list[Layer]:
    """Return the layers of a model, in the order of their first arrays.

    Args:
        arrays: all of the model.
        kind: returns the name of the class that a library gives a module, or nothing.
        whole: whether the module of this kind and path is one layer with all that is below it.
    """
    found: dict[str, tuple[str, Any, int, Array, dict[str, Array]]] = {}
    for array in arrays:
        depth = len(array.keys) - 1
        for level, owner in enumerate(array.owners):
            if whole(kind(owner), ".".join(array.keys[:level])):
                depth = level
                break
        path = ".".join(array.keys[:depth])
        owner = array.owners[depth] if array.owners else None
        *_, own = found.setdefault(path, (kind(owner), owner, depth, array, {}))
        own[".".join(array.keys[depth:])] = array
    return [
        Layer(kind, owner, array.keys[:depth], array.owners[:depth], own)
        for kind, owner, depth, array, own in found.values()
    ]
