"""Which parameters are in which group: by patterns, by a function, or as a trainer does."""

import abc
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from torchwise.groups.patterns import matched, patterns_of, refuse_unmatched

MATCH = "match"
LEAVE_OUT = "leave_out"

# What schedulers and trainers write into groups, besides the hyperparameters of an optimizer.
OF_SCHEDULERS = frozenset(["initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum"])
_OF_TRAINERS = OF_SCHEDULERS | {"name", "lr_scale"}


class Entry(NamedTuple):
    """A parameter: its name, and an array or anything else that has a shape."""

    name: str
    array: Any


class Selected(NamedTuple):
    """A group: its options, and where its members stand among the parameters, in their order."""

    options: dict[str, Any]
    members: list[int]


class TrainerGroups(abc.ABC):
    """A rule of a trainer, which sees all parameters and says which groups there are."""

    @abc.abstractmethod
    def select(self, entries: Sequence[Entry]) -> list[Selected]:
        """Return the groups in the order in which the trainer writes them."""


Chooser: TypeAlias = Callable[[str, Any], Mapping[str, Any] | None]
Groups: TypeAlias = Sequence[Mapping[str, Any]] | Chooser | TrainerGroups


def select(groups: Groups, entries: Sequence[Entry]) -> list[Selected]:
    """Return the groups of parameters; each parameter is in exactly one.

    Args:
        groups: one of three.
            A list of dicts: `match` holds a pattern or several, the rest are options. The dict
            without `match` takes what no pattern matches; it is the last one, without options, if
            none is given and something is left.
            A function `(name, array) -> options`: equal options make a group, and None is no
            option. Groups stand in the order in which the function returns them first.
            Those of a trainer, from `torchwise.groups`.
        entries: the parameters.

    Raises:
        TypeError: for what is none of these.
        ValueError: naming patterns that match nothing, and parameters that two groups match.
    """
    if isinstance(groups, TrainerGroups):
        return groups.select(entries)
    if getattr(groups, "__module__", "").startswith(f"{__package__}."):
        name = f"groups.{getattr(groups, '__name__', groups)}"
        raise TypeError(f"groups is the function {name} itself: call it, as in {name}(...)")
    if callable(groups):
        return _by_function(groups, entries)
    if not isinstance(groups, list | tuple) or not all(isinstance(one, Mapping) for one in groups):
        raise TypeError(
            "groups is a list of dicts with patterns under 'match', a function (name, array) -> "
            f"dict or None, or a rule of torchwise.groups, but got {groups!r}"
        )
    return _by_patterns(groups, entries)


def names_in(entries: Sequence[Entry]) -> list[str]:
    """Return the names of parameters."""
    return [entry.name for entry in entries]


def axes_of(entry: Entry) -> int:
    """Return how many axes a parameter has."""
    return len(entry.array.shape)


def _by_patterns(groups: Sequence[Mapping[str, Any]], entries: Sequence[Entry]) -> list[Selected]:
    names = names_in(entries)
    selected, owners, rest = [], dict[int, str](), None
    for index, group in enumerate(groups):
        if "params" in group:
            raise ValueError(
                f"group {index} of groups has 'params': say by 'match' which names it takes, or "
                "pass a list of such dicts as the parameters, without groups="
            )
        one = Selected({key: value for key, value in group.items() if key != MATCH}, [])
        selected.append(one)
        if MATCH not in group:
            if rest is not None:
                raise ValueError(f"group {index} of groups is the second one without 'match'")
            rest = one
            continue
        where = f"'match' of group {index}"
        patterns = patterns_of(group[MATCH], where)
        refuse_unmatched(patterns, names, where)
        for position, name in enumerate(names):
            pattern = matched(name, patterns)
            if pattern is None:
                continue
            here = f"{pattern!r} of group {index}"
            if position in owners:
                raise ValueError(
                    f"{name!r} is matched by {owners[position]} and by {here}: narrow one of them, "
                    "or pass a function (name, array) -> dict as groups"
                )
            owners[position] = here
            one.members.append(position)
    left = [position for position in range(len(names)) if position not in owners]
    if rest is not None:
        rest.members.extend(left)
    elif left:
        selected.append(Selected({}, left))
    return selected


def _by_function(choose: Chooser, entries: Sequence[Entry]) -> list[Selected]:
    selected: list[Selected] = []
    for position, (name, array) in enumerate(entries):
        found = choose(name, array)
        if not isinstance(found, Mapping | None):
            raise TypeError(
                f"groups({name!r}, array) returned {found!r}: return a dict of options, or None "
                "for those of the optimizer"
            )
        options = dict(found or {})
        same = next((one for one in selected if one.options == options), None)
        if same is None:
            same = Selected(options, [])
            selected.append(same)
        same.members.append(position)
    return selected


def refuse_unknown(options: Mapping[str, Any], known: Collection[str], index: int) -> None:
    """Raise a ValueError for an option of a group that an optimizer does not have.

    Args:
        options: of the group.
        known: the names of the optimizer's hyperparameters.
        index: of the group.
    """
    allowed = {*known, *_OF_TRAINERS, LEAVE_OUT}
    for key in options:
        if key not in allowed:
            raise ValueError(
                f"group {index} has the option {key!r}, which the optimizer does not know: it has "
                f"{', '.join(map(repr, known))}; a note of your own belongs under 'name'"
            )
