"""Whether shapes leave only one way to place the ids of a dict, or a choice that may matter."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from torchwise.rule import Rule
from torchwise.state_dict.arrays import any_array
from torchwise.state_dict.entry import expected_shapes
from torchwise.state_dict.layout import Place

Entry = Mapping[str, Any]


class Placed(NamedTuple):
    """A parameter of a dict, and the leaf where it has been put.

    Attributes:
        identity: its id.
        group: the number of its group.
        entry: its state; empty if it has none.
        rule: of its group.
        place: of the leaf.
    """

    identity: Any
    group: int
    entry: Entry
    rule: Rule
    place: Place


def exchangeable(placed: Sequence[Placed]) -> list[list[Placed]]:
    """Return the sets of parameters that could go round among their leaves, and all shapes fit.

    A parameter without state fits everywhere. If there are no such sets, shapes leave no choice.
    """
    kinds: dict[Any, list[Placed]] = {}
    for one in placed:
        structure = jax.tree.structure(one.rule)
        kinds.setdefault((_shapes_of(one), structure, one.place.torch_shape), []).append(one)
    known: dict[Any, dict[str, tuple[int, ...]]] = {}

    def fits(one: Placed, other: Placed) -> bool:
        """Whether the state of one has the shapes of the other's leaf."""
        key = jax.tree.structure(one.rule), other.place.torch_shape, other.place.shape
        if key not in known:
            known[key] = expected_shapes(one.rule, other.place)
        shapes = dict(_shapes_of(one))
        return all(known[key].get(name, shape) == shape for name, shape in shapes.items())

    if len(placed) < 2:
        return []
    examples = [members[0] for members in kinds.values()]
    reach = np.array([[fits(one, other) for other in examples] for one in examples], bool)
    reach |= np.eye(len(examples), dtype=bool)
    # Ways along which parameters may be shifted; squared until they get no longer.
    while (further := reach @ reach).sum() > reach.sum():
        reach = further
    circles = reach & reach.T
    sets: dict[bytes, list[Placed]] = {}
    for members, circle in zip(kinds.values(), circles):
        sets.setdefault(circle.tobytes(), []).extend(members)
    return [members for members in sets.values() if len(members) > 1]


def first_that_differ(members: Sequence[Placed]) -> tuple[Placed, Placed] | None:
    """Return two of them for which it matters who is where: by their group or by their state."""
    first = members[0]
    for other in members[1:]:
        if first.group != other.group or not equal_entries(first.entry, other.entry):
            return first, other
    return None


def _shapes_of(one: Placed) -> tuple[tuple[str, tuple[int, ...]], ...]:
    given = {key: value for key, value in one.entry.items() if value is not None}
    return tuple(sorted((key, tuple(np.shape(value))) for key, value in given.items()))


def equal_entries(one: Entry, other: Entry) -> bool:
    """Whether two states are equal in every bit; None is no value, and nobody sees other hosts."""
    mine, theirs = (
        {key: any_array(value) for key, value in entry.items() if value is not None}
        for entry in (one, other)
    )
    if mine.keys() != theirs.keys():
        return False
    arrays = [*mine.values(), *theirs.values()]
    if not all(getattr(array, "is_fully_addressable", True) for array in arrays):
        return False
    pairs = ((np.asarray(mine[key]), np.asarray(theirs[key])) for key in mine)
    return all(
        (a.shape, a.dtype) == (b.shape, b.dtype) and a.tobytes() == b.tobytes() for a, b in pairs
    )
