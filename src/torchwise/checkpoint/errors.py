"""The one error of this package, and how it quotes what a file says."""

import reprlib
from typing import Any


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written; the text names it and says what is wrong.

    Examples:
        >>> from torchwise import checkpoint
        >>> issubclass(checkpoint.CheckpointError, ValueError)
        True
    """


class _ShortRepr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = 80

    def repr_instance(self, x: Any, level: int) -> str:
        return repr(x) if type(x) in (float, bool, type(None)) else f"<{type(x).__name__}>"


repr_short = _ShortRepr().repr
"""`repr` of bounded length and depth: a file must not choose how much work an error text is."""
