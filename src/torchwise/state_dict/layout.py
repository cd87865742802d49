"""Where torch's arrays are in a tree: under which path, with which axes."""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.trees import has_names, path_name

Axes = tuple[int | None, ...]


class Layout(NamedTuple):
    """How the names and axes of torch's parameters differ from those of a tree.

    It is written from the tree's side, so that it can be followed both ways: the way back is
    derived from it.

    Attributes:
        rename: torch's name of each path, where it is another: a dict `{path: name}` or a function
            `path -> name`. Paths are dotted: `layers.0.bias`.
        permute: which axis of torch's array each axis of the tree's array is, as in
            `numpy.transpose`; None is an axis of length 1 that torch has not. Keys are paths or
            patterns of `fnmatch`; the first that matches counts. A square matrix gives no hint in
            its shape that it is to be transposed: only this says so.
        ignore: patterns of torch's names that have no place in the tree, as
            `*.num_batches_tracked`.
        prefix: what all of torch's names begin with, and those of the tree do not, as `module.` of
            DistributedDataParallel and `_orig_mod.` of `torch.compile`.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> layout = torchwise.Layout({"kernel": "weight"}, {"kernel": (1, 0)})
        >>> [place] = layout.places({"kernel": jnp.ones((3, 2))})
        >>> place.name, place.torch_shape
        ('weight', (2, 3))
    """

    rename: Mapping[str, str] | Callable[[str], str] = MappingProxyType({})
    permute: Mapping[str, Axes] = MappingProxyType({})
    ignore: Sequence[str] = ()
    prefix: str = ""

    def places(self, tree: Any) -> list["Place"]:
        """Return the place of every leaf, in order.

        Raises:
            ValueError: if axes do not fit an array, or two leaves get the same name.
        """
        entries = jax.tree.leaves_with_path(tree)
        named = has_names(path for path, _ in entries)
        places = [self._place(path_name(path), leaf, named) for path, leaf in entries]
        taken: dict[str, str] = {}
        for place in places:
            if not place.name:
                continue
            if taken.setdefault(place.name, place.path) != place.path:
                raise ValueError(
                    f"layout: {taken[place.name]!r} and {place.path!r} have the same name in "
                    f"torch, {place.name!r}"
                )
        return places

    def _place(self, path: str, leaf: Any, named: bool) -> "Place":
        own = path if named else ""
        name = self.rename(path) if callable(self.rename) else self.rename.get(path, own)
        name = f"{self.prefix}{name}" if name else name
        matching = (axes for key, axes in self.permute.items() if _matches(path, key))
        axes = next(matching, None)
        shape = jnp.shape(leaf)
        if axes is not None:
            _check_axes(path, axes, shape)
        return Place(path, name, axes, shape, jnp.result_type(leaf))


class Place(NamedTuple):
    """One leaf of a tree, and how torch has it.

    Attributes:
        path: dotted.
        name: torch's; empty in a mere sequence of arrays.
        axes: see `Layout.permute`; None where all axes are as torch's.
        shape: in the tree.
        dtype: in the tree.
    """

    path: str
    name: str
    axes: Axes | None
    shape: tuple[int, ...]
    dtype: Any

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """The shape of torch's array."""
        if self.axes is None:
            return self.shape
        lengths = dict(zip(self.axes, self.shape))
        return tuple(lengths[axis] for axis in range(len(self._order)))

    def from_torch(self, array: Any) -> Any:
        """Return torch's array with the tree's axes; a view of a numpy array."""
        if self.axes is None:
            return array
        return array.transpose(self._order).reshape(self.shape)

    def to_torch(self, array: Any) -> Any:
        """Return the tree's array with torch's axes: what `from_torch` would take."""
        if self.axes is None:
            return array
        kept = [length for axis, length in zip(self.axes, self.shape) if axis is not None]
        return array.reshape(kept).transpose(np.argsort(self._order))

    @property
    def _order(self) -> list[int]:
        return [axis for axis in self.axes or () if axis is not None]


def is_ignored(name: str, layout: Layout) -> bool:
    """Whether a name of torch is known to have no place in the tree."""
    return any(_matches(name, pattern) for pattern in layout.ignore)


def _matches(path: str, pattern: str) -> bool:
    return path == pattern or fnmatch.fnmatchcase(path, pattern)


def _check_axes(path: str, axes: Axes, shape: tuple[int, ...]) -> None:
    order = sorted(axis for axis in axes if axis is not None)
    fresh = [length for axis, length in zip(axes, shape) if axis is None]
    if len(axes) != len(shape) or order != list(range(len(order))) or any(x != 1 for x in fresh):
        raise ValueError(f"layout: axes {axes} do not fit {path!r} of shape {shape}")
