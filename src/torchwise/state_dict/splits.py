"""Arrays of torch that are several in a tree, as the joined weights of attention, or sums."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.state_dict.arrays import any_array


class Split(NamedTuple):
    """Some of torch's arrays, and what a tree has in their place.

    Attributes:
        names: torch's names.
        parts: names of what is in the tree, as `Layout.rename` gives them to leaves; torch has none
            of them.
        split: takes torch's arrays, of numpy or JAX, and returns the parts, with torch's axes.
            Raises a ValueError where it cannot.
        join: its inverse.
        moves_numbers: whether each number of one side stands in one place of the other. Then the
            state of an optimizer is split and joined in the same way, else it is refused.
        why_not: what an error says of the state of an optimizer, where it is refused.
    """

    names: tuple[str, ...]
    parts: tuple[str, ...]
    split: Callable[..., Sequence[Any]]
    join: Callable[..., Sequence[Any]]
    moves_numbers: bool = True
    why_not: str = ""

    def prefixed(self, prefix: str) -> "Split":
        """Return the same with a prefix in front of all names."""
        names, parts = (tuple(f"{prefix}{one}" for one in own) for own in (self.names, self.parts))
        return self._replace(names=names, parts=parts)


def joined(name: str, parts: Sequence[str], lengths: Sequence[int]) -> Split:
    """Return the split of an array that holds others behind each other, along its first axis.

    Args:
        name: torch's name of the whole.
        parts: names of the parts.
        lengths: of the first axis of each part.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> split = torchwise.layouts.joined("qkv.weight", ["q.weight", "k.weight"], [2, 1])
        >>> [part.shape for part in split.split(jnp.ones((3, 4)))]
        [(2, 4), (1, 4)]
    """
    ends = np.cumsum(lengths)

    def split(whole: Any) -> list[Any]:
        if not whole.shape or whole.shape[0] != ends[-1]:
            raise ValueError(
                f"has shape {whole.shape}, its parts have {' + '.join(map(str, lengths))} rows"
            )
        return [whole[end - length : end] for end, length in zip(ends, lengths)]

    return Split((name,), tuple(parts), split, lambda *arrays: [concatenated(arrays)])


def concatenated(arrays: Sequence[Any]) -> Any:
    """Return arrays behind each other; of numpy, unless one is JAX's."""
    library = jnp if any(isinstance(array, jax.Array) for array in arrays) else np
    return library.concatenate(arrays)


def used_splits(splits: Iterable[Split], names: Collection[str]) -> list[Split]:
    """Return the splits whose parts are in a tree with these names.

    Raises:
        ValueError: if only some parts of a split are.
    """
    used = []
    for split in splits:
        found = [part for part in split.parts if part in names]
        if len(found) == len(split.parts):
            used.append(split)
        elif found:
            lacking = [part for part in split.parts if part not in names]
            raise ValueError(
                f"layout: the tree has {found}, but not {lacking}, which torch has in one with "
                f"them, under {', '.join(map(repr, split.names))}"
            )
    return used


def torch_names(names: Iterable[str], splits: Iterable[Split]) -> list[str]:
    """Return torch's names of what a tree has under these: each once, where the first stands."""
    whole = {part: split.names for split in splits for part in split.parts}
    return list(dict.fromkeys(torch for name in names for torch in whole.get(name, (name,))))


def part_names(names: Iterable[str], splits: Iterable[Split]) -> list[str]:
    """Return the names in a tree of what torch has under these."""
    parts = {name: split.parts for split in splits for name in split.names}
    return list(dict.fromkeys(part for name in names for part in parts.get(name, (name,))))


def split_arrays(
    arrays: Mapping[str, Any], splits: Iterable[Split]
) -> tuple[dict[str, Any], list[str]]:
    """Return arrays by the names of a tree, and what is wrong with those that are split.

    What is missing is left out.
    """
    found, problems = dict(arrays), []
    for split in splits:
        if not all(name in arrays for name in split.names):
            continue
        try:
            parts = split.split(*(any_array(found.pop(name)) for name in split.names))
            found.update(zip(split.parts, parts, strict=True))
        except (TypeError, ValueError) as error:
            problems.append(f"{', '.join(map(repr, split.names))} {error}")
    return found, problems


def join_arrays(arrays: Mapping[str, Any], splits: Iterable[Split]) -> dict[str, Any]:
    """Return arrays by torch's names, each where the first of its parts stands."""
    splits = list(splits)
    whole = {
        name: array
        for split in splits
        for name, array in zip(split.names, split.join(*(arrays[part] for part in split.parts)))
    }
    return {
        name: whole[name] if name in whole else arrays[name] for name in torch_names(arrays, splits)
    }
