"""Patterns on the names of parameters, as the shell has them for files."""

import difflib
import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

Patterns: TypeAlias = str | Sequence[str]
_NEAR, _ALIKE = 3, 0.6  # how many names, and from which ratio of equal letters on


def patterns_of(value: Any, where: str) -> list[str]:
    """Return one pattern, or several, as a list.

    Args:
        value: a string or a sequence of strings.
        where: begins an error.

    Raises:
        TypeError: for anything else.
        ValueError: for no pattern at all.
    """
    patterns = [value] if isinstance(value, str) else value
    fits = isinstance(patterns, list | tuple | set | frozenset)
    if not fits or not all(isinstance(one, str) for one in patterns):
        raise TypeError(
            f"{where} takes a pattern on names, or a list of patterns, but got {value!r}"
        )
    if not patterns:
        raise ValueError(f"{where} has no pattern: pass one on names, as '*.bias'")
    return list(patterns)


def listed(patterns: Patterns, where: str) -> list[str]:
    """Return patterns as a list, which may be empty."""
    return patterns_of(patterns, where) if patterns else []


def matched(name: str, patterns: Iterable[str]) -> str | None:
    """Return the first pattern that matches a whole name, or None; case counts."""
    return next((one for one in patterns if fnmatch.fnmatchcase(name, one)), None)


def refuse_unmatched(patterns: Iterable[str], names: Sequence[str], where: str) -> None:
    """Raise a ValueError for patterns that match no name."""
    idle = [one for one in patterns if not any(fnmatch.fnmatchcase(name, one) for name in names)]
    if idle:
        raise ValueError("; ".join(f"{where}: {unmatched(one, names)}" for one in idle))


def unmatched(pattern: str, names: Sequence[str]) -> str:
    """Return what is wrong with a pattern that matches no name, with names that are near."""
    core = pattern.strip("*.")
    scores = {name: _likeness(core, name) for name in names}
    near = [name for name in sorted(names, key=lambda one: -scores[one]) if scores[name] > _ALIKE]
    kind = "near names are" if near else "the names begin with"
    listed = ", ".join(map(repr, (near or list(names))[:_NEAR]))
    return f"{pattern!r} matches no parameter; {kind} {listed}"


def _likeness(core: str, name: str) -> float:
    """Return how much a pattern without its stars is like a name, or its first or last part."""
    if core and core in name:
        return 1.0
    pieces = {name, name.partition(".")[0], name.rpartition(".")[2]}
    return max(difflib.SequenceMatcher(None, core, piece).ratio() for piece in pieces)
