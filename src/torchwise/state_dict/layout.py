"""Where torch's arrays are in a tree: under which path, with which axes."""

import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.state_dict.splits import Split, used_splits
from torchwise.trees import has_names, path_name

Axes = tuple[int | None, ...]


class Rearrangement(NamedTuple):
    """How the numbers of torch's array are arranged in the tree, where permuted axes do not say it.

    torch's array gets the shape `factors`, the axes `flip` are reversed, all axes are permuted as
    by `numpy.transpose`, and the result gets the shape of the tree's array.

    Attributes:
        torch_shape: the shape of torch's array.
        factors: the same with each axis that is several in one, as the rows of all heads, as these.
        axes: which of the factors each axis is.
        flip: those of the factors that run backwards in the tree.
    """

    torch_shape: tuple[int, ...]
    factors: tuple[int, ...]
    axes: tuple[int, ...]
    flip: tuple[int, ...] = ()


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
            its shape that it is to be transposed: only this says so. Where axes do not say it, a
            `torchwise.layouts.Rearrangement`.
        ignore: patterns of torch's names that have no place in the tree, as
            `*.num_batches_tracked`.
        splits: where torch's arrays are several in the tree, or several of torch's are one, a
            `torchwise.layouts.Split`. `rename` says which leaves have the names of its parts.
        tied: names under which torch's model has a second time what has another name, as
            `{"lm_head.weight": "wte.weight"}`. When parameters are loaded, one of the two will do,
            and both must be equal; both are written. An optimizer of torch has `wte.weight` alone.
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
    permute: Mapping[str, Axes | Rearrangement] = MappingProxyType({})
    ignore: Sequence[str] = ()
    splits: Sequence[Split] = ()
    tied: Mapping[str, str] = MappingProxyType({})
    prefix: str = ""

    def splits_of(self, places: Sequence["Place"]) -> list[Split]:
        """Return the splits whose parts are among these places, with torch's names.

        Raises:
            ValueError: if only some parts of a split are.
        """
        splits = [split.prefixed(self.prefix) for split in self.splits]
        return used_splits(splits, {place.name for place in places})

    def tied_names(self) -> dict[str, str]:
        """Return `tied` with the prefix."""
        return {
            f"{self.prefix}{second}": f"{self.prefix}{first}" for second, first in self.tied.items()
        }

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
    axes: Axes | Rearrangement | None
    shape: tuple[int, ...]
    dtype: Any

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """The shape of torch's array."""
        return self.shape if self.axes is None else self._way(self.axes).torch_shape

    def from_torch(self, array: Any) -> Any:
        """Return torch's array with the tree's axes; a view of a numpy array, if axes say it."""
        if self.axes is None:
            return array
        way = self._way(self.axes)
        factors = _flipped(array.reshape(way.factors), way.flip)
        return factors.transpose(way.axes).reshape(self.shape)

    def to_torch(self, array: Any) -> Any:
        """Return the tree's array with torch's axes: what `from_torch` would take."""
        if self.axes is None:
            return array
        way = self._way(self.axes)
        factors = array.reshape([way.factors[axis] for axis in way.axes])
        factors = factors.transpose([*map(int, np.argsort(way.axes))])
        return _flipped(factors, way.flip).reshape(way.torch_shape)

    def _way(self, axes: Axes | Rearrangement) -> Rearrangement:
        if isinstance(axes, Rearrangement):
            return axes
        lengths = {axis: n for axis, n in zip(axes, self.shape) if axis is not None}
        shape = tuple(lengths[axis] for axis in range(len(lengths)))
        return Rearrangement(shape, shape, tuple(lengths))


def _flipped(array: Any, axes: Sequence[int]) -> Any:
    if not axes:
        return array
    return array[tuple(slice(None, None, -1 if axis in axes else 1) for axis in range(array.ndim))]


def is_ignored(name: str, layout: Layout) -> bool:
    """Whether a name of torch is known to have no place in the tree."""
    return any(_matches(name, pattern) for pattern in layout.ignore)


def _matches(path: str, pattern: str) -> bool:
    return path == pattern or fnmatch.fnmatchcase(path, pattern)


def _check_axes(path: str, axes: Axes | Rearrangement, shape: tuple[int, ...]) -> None:
    if isinstance(axes, Rearrangement):
        sizes = {math.prod(lengths) for lengths in (axes.torch_shape, axes.factors, shape)}
        fits = len(sizes) == 1 and sorted(axes.axes) == list(range(len(axes.factors)))
    else:
        order = sorted(axis for axis in axes if axis is not None)
        fresh = [length for axis, length in zip(axes, shape) if axis is None]
        fits = len(axes) == len(shape) and order == list(range(len(order)))
        fits = fits and all(length == 1 for length in fresh)
    if not fits:
        raise ValueError(f"layout: axes {axes} do not fit {path!r} of shape {shape}")
