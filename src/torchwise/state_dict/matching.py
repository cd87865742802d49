"""Which of torch's parameters is which leaf: by name where both sides have names, else by place."""

from collections.abc import Mapping, Sequence
from typing import Any

from torchwise.state_dict.layout import Place


def match_ids(
    groups: Sequence[Mapping[str, Any]], places: Sequence[Place], names: Sequence[str] | None
) -> tuple[list[list[int]], list[str]]:
    """Return, for each group, the positions of its parameters among the leaves; and all problems.

    Args:
        groups: saved ones.
        places: of the leaves.
        names: torch's names in the order of the ids, for groups without `param_names`.
    """
    ids = [identity for group in groups for identity in group["params"]]
    if len(set(ids)) != len(ids):
        return [], ["an id is in the groups twice"]
    theirs = _names(groups) if names is None else list(names)
    if theirs is not None and len(theirs) != len(ids):
        return [], [f"{len(theirs)} names for {len(ids)} parameters"]
    if theirs is not None and any(place.name for place in places):
        order, problems = match_names(theirs, [place.name for place in places])
    else:
        order, problems = list(range(len(ids))), []
        if len(ids) != len(places):
            problems = [f"{len(ids)} parameters in the state dict, {len(places)} in the tree"]
    if problems:
        return [], problems
    rest = iter(order)
    return [[next(rest) for _ in group["params"]] for group in groups], []


def match_names(theirs: Sequence[str], ours: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return where each of their names is among ours; and what is missing, unexpected or double."""
    position = {name: index for index, name in enumerate(ours)}
    problems = [f"missing {name!r}" for name in ours if name not in set(theirs)]
    problems += [f"unexpected {name!r}" for name in theirs if name not in position]
    if len(set(theirs)) < len(theirs):
        problems.append(f"the same name twice in {list(theirs)}")
    return ([] if problems else [position[name] for name in theirs]), problems


def _names(groups: Sequence[Mapping[str, Any]]) -> list[str] | None:
    if not all("param_names" in group for group in groups):
        return None
    return [name for group in groups for name in group["param_names"]]
