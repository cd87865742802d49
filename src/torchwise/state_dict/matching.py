"""Which of torch's parameters is which leaf: by name where both sides have names, else by place."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torchwise.alphabetical import is_alphabetical
from torchwise.state_dict.layout import Place
from torchwise.state_dict.names import listed_names, own_names

_UNNAMED = "the dict has no names"
_SORTED = "the names are in alphabetical order, as those of a safetensors file"
_SORTED_TREE = "params is in alphabetical order, as JAX leaves dicts behind"


class Leaves(NamedTuple):
    """The leaves that an optimizer of torch has, as far as their order is known.

    Attributes:
        places: of the leaves.
        order: where they stand among the leaves, in the order in which they were passed.
        sequence: whether the tree is a mere sequence, whose order is all that its owner says.
    """

    places: Sequence[Place]
    order: Sequence[int]
    sequence: bool


class Matching(NamedTuple):
    """What is found out from names and places alone.

    Attributes:
        members: for each group, the positions of its parameters among the leaves; more than one
            such list where they are placed in the order of JAX or in that of passing, whichever
            fits the shapes. Where both fit, shapes leave a choice.
        doubt: why this may be wrong where shapes leave a choice; None if the dict or the caller
            says that it is right.
        problems: all that is wrong.
    """

    members: list[list[list[int]]]
    doubt: str | None
    problems: list[str]


def match_ids(
    groups: Sequence[Mapping[str, Any]],
    leaves: Leaves,
    names: Iterable[Any] | None,
    order: str | None,
    has_no_place: Callable[[str], bool],
) -> Matching:
    """Return which leaves the ids of a dict are, as far as names and places tell.

    Args:
        groups: saved ones.
        leaves: the parameters.
        names: torch's names in the order of the ids, for groups without names; also by group.
        order: "given" if the caller says that the order of the names, or else of the leaves, is
            that of the ids.
        has_no_place: whether a name that the caller gives is that of no parameter here.
    """
    sizes = [len(group["params"]) for group in groups]
    ids = [identity for group in groups for identity in group["params"]]
    if len(set(ids)) != len(ids):
        return Matching([], None, ["an id is in the groups twice"])
    said = own_names(groups)
    theirs, problems = _given_names(names, said, sizes, has_no_place)
    if problems:
        return Matching([], None, problems)
    has_names = any(place.name for place in leaves.places)
    if theirs is not None and has_names:
        one, problems = match_names(theirs, [place.name for place in leaves.places])
        found = [one]
        trusted = said is not None or order is not None
        doubt = None if trusted or not is_alphabetical(_cut(theirs, sizes)) else _SORTED
    else:
        found, problems = [list(leaves.order)], []
        if order is None and found != [sorted(leaves.order)]:
            found = [sorted(leaves.order), *found]
        if len(ids) != len(leaves.places):
            here = len(leaves.places)
            problems = [f"{_counted(len(ids), 'parameter')} in the state dict, {here} in the tree"]
        doubt = None if leaves.sequence else _doubt(leaves, order)
    members = [] if problems else [_cut(one, sizes) for one in found]
    return Matching(members, doubt, problems)


def match_names(theirs: Sequence[str], ours: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return where each of their names is among ours; and what is missing, unexpected or double."""
    position = {name: index for index, name in enumerate(ours)}
    problems = [f"missing {name!r}" for name in ours if name not in set(theirs)]
    problems += [f"unexpected {name!r}" for name in theirs if name not in position]
    if len(set(theirs)) < len(theirs):
        problems.append(f"the same name twice in {list(theirs)}")
    return ([] if problems else [position[name] for name in theirs]), problems


def _doubt(leaves: Leaves, order: str | None) -> str | None:
    if order is None:
        return _UNNAMED
    passed = [leaves.places[leaf].name for leaf in leaves.order]
    return _SORTED_TREE if is_alphabetical([passed], surely=True) else None


def _given_names(
    names: Iterable[Any] | None,
    said: list[str] | None,
    sizes: Sequence[int],
    has_no_place: Callable[[str], bool],
) -> tuple[list[str] | None, list[str]]:
    """Return the names of the ids, from the dict or the caller, who must agree; and problems."""
    if names is None:
        given, by_group = said, None
    else:
        given, by_group = listed_names(names, has_no_place)
    if given is None:
        return None, []
    if len(given) != sum(sizes):
        return None, [f"{_counted(len(given), 'name')} for {_counted(sum(sizes), 'parameter')}"]
    if by_group is not None and [len(one) for one in by_group] != list(sizes):
        return None, [f"names for groups of {[len(one) for one in by_group]}, not of {sizes}"]
    if said is not None and given != said:
        return None, [
            f"names= has {mine!r} for the parameter that the dict calls {theirs!r}: leave names= "
            "out, or say by layout= or prefix= how names differ"
            for mine, theirs in zip(given, said)
            if mine != theirs
        ]
    return given, []


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _cut(values: Iterable[Any], sizes: Sequence[int]) -> list[list[Any]]:
    rest = iter(values)
    return [list(itertools.islice(rest, size)) for size in sizes]
