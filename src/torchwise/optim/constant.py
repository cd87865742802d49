"""Constants of compiled programs, of which there is one for each value."""

import functools
from typing import Generic, TypeVar

T = TypeVar("T")


class Constant(Generic[T]):
    """A value that is compared by identity; `constant` returns the same one for equal values.

    The plan of many groups is long, and a step asks for its hash several times. That of an object
    is C code, so that nothing interrupts the call of a program while it looks for it.

    Args:
        value: anything that can be hashed.
    """

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value


@functools.cache
def constant(value: T) -> Constant[T]:
    """Return the one constant of a value; it lives as long as the programs that depend on it."""
    return Constant(value)
