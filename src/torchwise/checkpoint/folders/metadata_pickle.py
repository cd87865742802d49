"""The pickle `.metadata` of torch.distributed.checkpoint, read as inert objects.

It has protocol 4, and objects of torch's classes as keys, which a checkpoint's own pickle has not.
Nothing is imported and nothing is called: an object is its class's name, and what is said of it.
"""

import pickle  # the codes of the opcodes; nothing of this module is ever called
import struct
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.limits import MAX_CONTAINERS, MAX_KEY


class Described:
    """An object, or the result of a call, as the pickle describes it; a class has no arguments.

    Attributes:
        name: of the class or function, e.g. `torch.Size`.
        arguments: of the call, or None.
        state: what the object would be given, or None.
    """

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple[Any, ...] | None = None) -> None:
        self.name, self.arguments, self.state = name, arguments, None


def read_metadata_pickle(data: bytes) -> Any:
    """Return what the pickle holds: plain values and `Described`.

    Raises:
        CheckpointError: it is damaged, or has what torch does not write there.
    """
    try:
        return _Machine(data).run()
    except CheckpointError:
        raise
    except (IndexError, KeyError, struct.error, ValueError):
        raise CheckpointError("is damaged: its pickle does not hold together") from None


class _Machine:
    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: list[Any] = []
        self._containers = 0

    def run(self) -> Any:
        if self.take(2)[:1] != pickle.PROTO:
            raise CheckpointError("is not a pickle")
        while (opcode := self.take(1)) != pickle.STOP:
            operation = _OPERATIONS.get(opcode)
            if operation is None:
                self.fail(f"has opcode {opcode!r}")
            operation(self)
        (value,) = self._stack
        return value

    def fail(self, what: str) -> NoReturn:
        raise CheckpointError(f"{what} at byte {self._position}, which torch does not write there")

    def take(self, count: int) -> bytes:
        start, self._position = self._position, self._position + count
        if self._position > len(self._data):
            raise CheckpointError("is truncated")
        return self._data[start : self._position]

    def skip(self, count: int) -> None:
        self.take(count)

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def push_container(self, value: Any) -> None:
        self._containers += 1
        if self._containers > MAX_CONTAINERS:
            raise CheckpointError(f"holds more than {MAX_CONTAINERS} containers")
        self._stack.append(value)

    def push_text(self, layout: str) -> None:
        self.push(self.take(self.number(layout)).decode("utf-8", "surrogatepass"))

    def mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def push_tuple(self, count: int) -> None:
        items = [self._stack.pop() for _ in range(count)]
        self.push_container(tuple(reversed(items)))

    def append(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            self.fail("appends to what is not a list")
        self._stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(items) % 2:
            self.fail("sets items of what is not a dict")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) not in (str, int, Described) or (type(key) is int and abs(key) >= MAX_KEY):
                self.fail(f"has the key {repr_short(key)}")
            target[key] = value

    def memoize(self) -> None:
        self._memo.append(self._stack[-1])

    def recall(self, index: int) -> None:
        self.push(self._memo[index])

    def push_class(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self.push(Described(f"{module}.{name}" if type(module) is type(name) is str else "?"))

    def make(self) -> None:
        arguments, made = self._stack.pop(), self._stack.pop()
        if (
            type(made) is not Described
            or made.arguments is not None
            or type(arguments) is not tuple
        ):
            self.fail("calls what is not a class or function")
        # Sizes are compared and hashed as the tuples that they are.
        is_size = made.name == "torch.Size" and len(arguments) == 1
        self.push_container(arguments[0] if is_size else Described(made.name, arguments))

    def build(self) -> None:
        state = self._stack.pop()
        if type(self._stack[-1]) is not Described:
            self.fail("sets attributes of what is not an object")
        self._stack[-1].state = state


_OPERATIONS: Mapping[bytes, Callable[[_Machine], None]] = {
    pickle.FRAME: lambda machine: machine.skip(8),
    pickle.NONE: lambda machine: machine.push(None),
    pickle.NEWTRUE: lambda machine: machine.push(True),
    pickle.NEWFALSE: lambda machine: machine.push(False),
    pickle.BININT: lambda machine: machine.push(machine.number("<i")),
    pickle.BININT1: lambda machine: machine.push(machine.number("B")),
    pickle.BININT2: lambda machine: machine.push(machine.number("<H")),
    pickle.LONG1: lambda machine: machine.push(
        int.from_bytes(machine.take(machine.number("B")), "little", signed=True)
    ),
    pickle.BINFLOAT: lambda machine: machine.push(machine.number(">d")),
    pickle.SHORT_BINUNICODE: lambda machine: machine.push_text("B"),
    pickle.BINUNICODE: lambda machine: machine.push_text("<I"),
    pickle.EMPTY_LIST: lambda machine: machine.push_container([]),
    pickle.EMPTY_DICT: lambda machine: machine.push_container({}),
    pickle.EMPTY_TUPLE: lambda machine: machine.push(()),
    pickle.TUPLE: lambda machine: machine.push_container(tuple(machine.to_mark())),
    pickle.TUPLE1: lambda machine: machine.push_tuple(1),
    pickle.TUPLE2: lambda machine: machine.push_tuple(2),
    pickle.TUPLE3: lambda machine: machine.push_tuple(3),
    pickle.MARK: lambda machine: machine.mark(),
    pickle.APPEND: lambda machine: machine.append([machine._stack.pop()]),
    pickle.APPENDS: lambda machine: machine.append(machine.to_mark()),
    pickle.SETITEM: lambda machine: machine.set_items([machine._stack.pop() for _ in "kv"][::-1]),
    pickle.SETITEMS: lambda machine: machine.set_items(machine.to_mark()),
    pickle.MEMOIZE: lambda machine: machine.memoize(),
    pickle.BINGET: lambda machine: machine.recall(machine.number("B")),
    pickle.LONG_BINGET: lambda machine: machine.recall(machine.number("<I")),
    pickle.STACK_GLOBAL: lambda machine: machine.push_class(),
    pickle.REDUCE: lambda machine: machine.make(),
    pickle.NEWOBJ: lambda machine: machine.make(),
    pickle.BUILD: lambda machine: machine.build(),
}
