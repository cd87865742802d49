"""The stack, the marks and the memo of a pickle machine, all of them bounded."""

from collections import Counter
from typing import Any

from torchwise.checkpoint.constructors import Finisher
from torchwise.checkpoint.errors import CheckpointError
from torchwise.checkpoint.limits import MAX_CONTAINERS, MAX_DEPTH
from torchwise.checkpoint.pickle_program import Program
from torchwise.checkpoint.records import Record

_CONTAINERS = (dict, list, tuple, Counter, set, Record)
_PARTS_OF_A_TENSOR = 8  # sizes, strides, hooks, the storage and its name, and their tuples
_LARGE = {Record: 4, set: 4}  # so many times as large as an empty dict, about
_MAX_MARKS = 4 * MAX_DEPTH  # a container, a call and its arguments open one each


class Stack:
    """Values that wait for the instruction that takes them.

    Args:
        program: names the place in error texts.

    Attributes:
        values: those above the last mark.
        persistent: what the pickle found outside of itself; each allows for some containers.
        recalled: identities of the containers that the memo has put into more than one place.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._below_marks: list[list[Any]] = []
        self._memo: list[Any] = []
        self._far: dict[int, Any] = {}  # what is remembered under an index that is not the next one
        self._places: dict[int, list[int]] = {}
        self._containers = 0
        self.values: list[Any] = []
        self.persistent: set[Any] = set()
        self.recalled: set[int] = set()

    def push_container(self, container: Any) -> None:
        """Push what takes memory of its own."""
        self._containers += _LARGE.get(type(container), 1)
        if self._containers > MAX_CONTAINERS + _PARTS_OF_A_TENSOR * len(self.persistent):
            raise CheckpointError(f"holds more than {MAX_CONTAINERS} containers")
        self.values.append(container)

    def push_tuple(self, length: int) -> None:
        """Push the last values as one."""
        if len(self.values) < length:
            raise IndexError
        items = tuple(self.values[-length:])
        del self.values[-length:]
        self.push_container(items)

    def mark(self) -> None:
        """Begin a list of values."""
        if len(self._below_marks) >= _MAX_MARKS:
            raise CheckpointError(f"nests containers more than {MAX_DEPTH} deep")
        self._below_marks.append(self.values)
        self.values = []

    def pop_to_mark(self) -> list[Any]:
        """Take the values behind the last mark."""
        items, self.values = self.values, self._below_marks.pop()
        return items

    def pop_last(self) -> Any:
        """Take the value that is left at the end."""
        if len(self.values) != 1 or self._below_marks:
            self._program.fail("stops before its end")
        return self.values.pop()

    def memoize(self, index: int | None = None) -> None:
        """Remember the last value under an index, or under the next one."""
        value = self.values[-1]
        if index is None or index == len(self._memo):
            index = len(self._memo)
            self._memo.append(value)
        else:
            self._put(index, value)
        if type(value) is Record and type(value.function) is Finisher:
            self._places.setdefault(id(value), []).append(index)

    def _put(self, index: int, value: Any) -> None:
        memo: Any = self._memo if index < len(self._memo) else self._far
        memo[index] = value

    def recall(self, index: int) -> None:
        """Push a remembered value."""
        if index < len(self._memo):
            value = self._memo[index]
        elif index in self._far:
            value = self._far[index]
        else:
            self._program.fail(f"reads entry {index} of its memo before writing it")
        if type(value) in _CONTAINERS:
            self.recalled.add(id(value))
        self.values.append(value)

    def replace_last(self, value: Any) -> None:
        """Put a value in the place of the record that is the last one, in the memo as well."""
        record, self.values[-1] = self.values[-1], value
        for index in self._places.pop(id(record), ()):
            self._put(index, value)
