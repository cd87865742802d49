"""The one error of this package, and how it quotes what a file says."""

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written; the text names it and says what is wrong.

    Examples:
        >>> from torchwise import checkpoint
        >>> issubclass(checkpoint.CheckpointError, ValueError)
        True
    """


@dataclass(frozen=True, slots=True)
class Refused:
    """Stands in a value for what cannot be read, until the walk over it knows under which key.

    Attributes:
        reason: what a `CheckpointError` says of it.
    """

    reason: str


class _ShortRepr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = 80

    def repr_instance(self, x: Any, level: int) -> str:
        return repr(x) if type(x) in (float, bool, type(None)) else f"<{type(x).__name__}>"


repr_short = _ShortRepr().repr
"""`repr` of bounded length and depth: a file must not choose how much work an error text is."""


def where(path: Sequence[Any]) -> str:
    """Return keys and indices as one writes them behind a value: `['state'][0]`."""
    steps = [f"[{_key(key)}]" for key in path]
    return "".join(steps if len(steps) <= 6 else [*steps[:3], "[...]", *steps[-2:]])


def _key(key: Any) -> str:
    text = repr_short(key)
    return text if len(text) <= 50 else f"{text[:24]}...{text[-23:]}"
