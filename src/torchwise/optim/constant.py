"""A constant of a compiled program, whose hash is asked for at every step."""

from typing import Generic, TypeVar

T = TypeVar("T")


class Constant(Generic[T]):
    """A hashable value, hashed once; of many groups, a plan is long.

    Args:
        value: what equality means.
    """

    __slots__ = ("_hash", "value")

    def __init__(self, value: T) -> None:
        self.value = value
        self._hash = hash(value)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Constant) and hash(other) == self._hash and other.value == self.value
        )
