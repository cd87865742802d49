"""Names for which there is a function of our own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torchwise.checkpoint.records import Name, Record


@dataclass(frozen=True, repr=False)
class Constructor(Name):
    """What `REDUCE` may call: one of our own functions, under the name a pickle gives it.

    Attributes:
        build: gets the arguments.
    """

    build: Callable[..., Any]


@dataclass(frozen=True, repr=False)
class Finisher(Name):
    """A name whose records become values, once they are complete.

    Attributes:
        finish: gets the record, after the call and again after its state; returns the value, or
            None as long as there is none.
    """

    finish: Callable[[Record], Any]


def constructors(functions: Mapping[str, Callable[..., Any]]) -> dict[str, Constructor]:
    """Return a table of constructors from one of functions, both by full name."""
    return {name: Constructor(*split(name), function) for name, function in functions.items()}


def split(name: str) -> tuple[str, str]:
    """Return module and name in it."""
    module, _, attribute = name.rpartition(".")
    return module, attribute
