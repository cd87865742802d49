"""Hyperparameters of a kind that no optimizer takes, named before any arithmetic meets them."""

import dataclasses
import math
from typing import Any

from torchwise.fields import fields_of

_ONE = "a single value"


def check(made: Any, call: str) -> None:
    """Raise what torch raises for hyperparameters, or a TypeError for those of no use.

    Where torch's comparison fails, its error says what was compared; a note says which it was.

    Args:
        made: a rule, or what else has hyperparameters and torch's checks of them.
        call: what the error calls it.
    """
    name, problem = _problem(made, call) or ("", None)
    if problem is not None and name != "lr" and hasattr(getattr(made, name), "shape"):
        raise TypeError(problem)  # an array of several has no truth value to compare
    try:
        made.check()
    except Exception as error:
        if problem is not None and name not in str(error):
            error.add_note(problem)
        raise
    if problem is not None:
        raise TypeError(problem)


def refuse_others(made: Any, call: str) -> None:
    """Raise a TypeError for hyperparameters of no use, of what has no checks of torch's.

    Args:
        made: a block.
        call: what the error calls it.
    """
    found = _problem(made, call)
    if found is not None:
        raise TypeError(found[1])


def _problem(made: Any, call: str) -> tuple[str, str] | None:
    """Return the name of the first field that is wrong, and what is wrong with it."""
    for field in fields_of(type(made)):
        wanted = _wanted(field)
        value = getattr(made, field.name)
        if not _fits(value, field.default, wanted):
            shown = f"an array of shape {value.shape}" if hasattr(value, "shape") else repr(value)
            return field.name, f"{call}: {field.name} is {shown}, but {wanted} is wanted"
    return None


def _wanted(field: dataclasses.Field[Any]) -> str:
    """Return what a field takes; of one value anything will do for what is true or false."""
    default = field.default
    if isinstance(default, tuple):
        return f"a tuple of {len(default)} numbers"
    free = default is None or isinstance(default, bool | str) or not field.init
    return _ONE if free else "a number"


def _fits(value: Any, default: Any, wanted: str) -> bool:
    if wanted == _ONE:
        return _size(value) == 1
    if not isinstance(default, tuple):
        return is_number(value)
    if not isinstance(value, list | tuple):
        return hasattr(value, "shape") and tuple(value.shape) == (len(default),)
    pairs = zip(value, default)
    return len(value) == len(default) and all(
        is_number(one) or (one is None and other is None) for one, other in pairs
    )


def is_number(value: Any) -> bool:
    """Whether a value is a real number, an array of one, or a schedule."""
    if callable(value):
        return True
    if isinstance(value, str | bytes) or "complex" in str(getattr(value, "dtype", "")):
        return False
    return hasattr(value, "__float__") and _size(value) == 1


def _size(value: Any) -> int:
    return math.prod(getattr(value, "shape", ()))
