"""Whether a list of names was sorted, which says that its order is not that of a model."""

import itertools
import re
from collections.abc import Sequence


def is_alphabetical(groups: Sequence[Sequence[str]], surely: bool = False) -> bool:
    """Whether names were sorted, all of them or those of each group, and in an order of letters.

    Lists of numbered layers are sorted, too, so that `0.weight, 1.weight` says nothing. Everything
    else that is sorted may be so by chance: a model has any order.

    Args:
        groups: names, group by group.
        surely: whether to answer only for what no model has: `10` before `2`, as numbers are not
            sorted by letters, or the bias of a module before its weight.
    """
    whole = list(itertools.chain(*groups))
    if whole == sorted(whole):
        runs = [whole]
    elif all(list(group) == sorted(group) for group in groups):
        runs = [list(group) for group in groups]
    else:
        return False
    steps = (_step(*pair) for run in runs for pair in itertools.pairwise(run))
    return any(step == "surely" or (step == "perhaps" and not surely) for step in steps)


def _step(one: str, other: str) -> str:
    """Return whether letters have ordered two names: surely, perhaps, or not, as of `1` and `2`."""
    pairs = itertools.zip_longest(one.split("."), other.split("."), fillvalue="")
    here, there = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
    if (here, there) == ("bias", "weight"):
        return "surely"
    ours, theirs = re.split(r"(\d+)", here), re.split(r"(\d+)", there)
    if len(ours) == len(theirs) > 1 and ours[::2] == theirs[::2]:
        numbers = [list(map(int, parts[1::2])) for parts in (ours, theirs)]
        return "no" if numbers[0] < numbers[1] else "surely"
    return "perhaps" if here and there else "no"
