"""Interpreter for the part of pickle protocol 2 that `torch.save` writes.

Why not `pickle.Unpickler` behind a scan of the opcodes: a scan has to agree with the unpickler on
every byte, and the standard `SETITEM` hashes any key, `BUILD` reaches into any object and `BINPUT`
allocates any index. Here each of thirty opcodes does one checked thing, and no name is imported.
"""

import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pickle import (  # the codes of the opcodes; nothing of this module is ever called
    APPEND,
    APPENDS,
    BINFLOAT,
    BINGET,
    BININT,
    BININT1,
    BININT2,
    BINPERSID,
    BINPUT,
    BINUNICODE,
    BUILD,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_TUPLE,
    GLOBAL,
    LONG1,
    LONG_BINGET,
    LONG_BINPUT,
    MARK,
    NEWFALSE,
    NEWOBJ,
    NEWTRUE,
    NONE,
    PROTO,
    REDUCE,
    SETITEM,
    SETITEMS,
    STOP,
    TUPLE,
    TUPLE1,
    TUPLE2,
    TUPLE3,
)
from typing import Any, NoReturn

from torchwise.checkpoint.errors import CheckpointError, Refused, repr_short
from torchwise.checkpoint.limits import MAX_CONTAINERS, MAX_DEPTH, MAX_KEY

_KEY_TYPES = (str, int, float, bool, type(None))
_CONTAINERS = (dict, list, tuple, Counter)
_PARTS_OF_A_TENSOR = 8  # sizes, strides, hooks, the storage and its name, and their tuples
_MAX_MARKS = 4 * MAX_DEPTH  # a container, a call and its arguments open one each


@dataclass(frozen=True, slots=True)
class Constructor:
    """What `REDUCE` may call: one of our own functions, under the name a pickle gives it."""

    name: str
    build: Callable[..., Any]


class PickleMachine:
    """Runs one pickle.

    Args:
        program: the pickle.
        find_global: maps `(module, name)` to an inert object, or raises CheckpointError.
        find_persistent: maps a persistent id to an object, or raises CheckpointError.

    What one of them refuses, or a constructor, does not end the program: a `Refused` goes on in its
    place, and the walk over the result says under which key it is.

    Attributes:
        refused: the first refusal, or None.
        recalled: identities of the containers that the memo has put into more than one place.
    """

    def __init__(
        self,
        program: bytes,
        find_global: Callable[[str, str], Any],
        find_persistent: Callable[[Any], Any],
    ) -> None:
        self._program = program
        self._position = 0
        self._find_global = find_global
        self._find_persistent = find_persistent
        self._stack: list[Any] = []
        self._below_marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._called_with = 0
        self._containers = 0
        self._persistent: set[Any] = set()
        self._refusals = 0
        self.refused: Refused | None = None
        self.recalled: set[int] = set()

    def run(self) -> Any:
        """Execute the program and return the object it leaves."""
        try:
            return self._run()
        except CheckpointError as error:
            # What follows a refusal may only fail because of it.
            raise (CheckpointError(self.refused.reason) if self.refused else error) from None

    def _run(self) -> Any:
        if self._program[:2] != PROTO + b"\x02":
            raise CheckpointError("data.pkl is not a pickle of protocol 2, which torch.save writes")
        self._position = 2
        try:
            while (opcode := self._take(1)) != STOP:
                operation = _OPERATIONS.get(opcode)
                if operation is None:
                    self._unknown(opcode)
                operation(self)
        except IndexError:
            self._fail("takes more values off the stack than are there")
        if self._position != len(self._program) or len(self._stack) != 1 or self._below_marks:
            self._fail("stops before its end")
        return self._stack.pop()

    def _fail(self, what: str) -> NoReturn:
        raise CheckpointError(f"data.pkl {what}, at byte {self._position}")

    def _take(self, count: int) -> bytes:
        start, self._position = self._position, self._position + count
        if self._position > len(self._program):
            raise CheckpointError("data.pkl ends in the middle of an instruction")
        return self._program[start : self._position]

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _push_container(self, container: Any) -> None:
        self._containers += 1
        if self._containers > MAX_CONTAINERS + _PARTS_OF_A_TENSOR * len(self._persistent):
            raise CheckpointError(f"holds more than {MAX_CONTAINERS} containers")
        self._stack.append(container)

    def _made(self, make: Callable[..., Any], *parts: Any) -> Any:
        """Return what is made of these parts, or why it cannot be made."""
        for part in parts:
            if type(part) is Refused:
                return part
        try:
            return make(*parts)
        except CheckpointError as error:
            return self._refuse(str(error))

    def _refuse(self, reason: str) -> Refused:
        """Return a refusal; from the hundredth on the first, which bounds what they take."""
        self._refusals += 1
        refused = Refused(reason) if self._refusals < 100 else self.refused
        self.refused = self.refused or refused
        assert refused is not None
        return refused

    def _push_number(self, layout: str) -> None:
        self._stack.append(self._number(layout))

    def _push_integer(self) -> None:
        self._stack.append(int.from_bytes(self._take(self._number("B")), "little", signed=True))

    def _push_text(self) -> None:
        encoded = self._take(self._number("<I"))
        try:
            self._stack.append(encoded.decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            self._fail("has a string that is not UTF-8")

    def _mark(self) -> None:
        if len(self._below_marks) >= _MAX_MARKS:
            raise CheckpointError(f"nests containers more than {MAX_DEPTH} deep")
        self._below_marks.append(self._stack)
        self._stack = []

    def _pop_to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below_marks.pop()
        return items

    def _push_tuple(self, length: int) -> None:
        if len(self._stack) < length:
            raise IndexError
        items = tuple(self._stack[-length:])
        del self._stack[-length:]
        self._push_container(items)

    def _push_tuple_to_mark(self) -> None:
        self._push_container(tuple(self._pop_to_mark()))

    def _append(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is Refused:
            return
        if type(self._stack[-1]) is not list:
            self._fail("appends to what is not a list")
        self._stack[-1].extend(items)

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is Refused:
            return
        if type(target) is not dict or len(items) % 2:
            self._fail("sets items of what is not a dict, or a key without a value")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) not in _KEY_TYPES or (type(key) is int and abs(key) >= MAX_KEY):
                self._fail(f"has the key {repr_short(key)}; keys are strings, numbers or None")
            target[key] = value if key not in target else self._twice(key)

    def _twice(self, key: Any) -> Refused:
        return self._refuse(
            f"has the key {repr_short(key)} twice; a torch.device or torch.dtype and the text of "
            "its name cannot be told apart"
        )

    def _memoize(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _recall(self, index: int) -> None:
        if index not in self._memo:
            self._fail(f"reads entry {index} of its memo before writing it")
        value = self._memo[index]
        if type(value) in _CONTAINERS:
            self.recalled.add(id(value))
        self._stack.append(value)

    def _line(self) -> str:
        end = self._program.find(b"\n", self._position)
        if end < 0:
            raise CheckpointError("data.pkl ends in the middle of an instruction")
        line = self._take(end + 1 - self._position)[:-1]
        return line.decode("utf-8", "backslashreplace")

    def _push_global(self) -> None:
        module, name = self._line(), self._line()
        self._stack.append(self._made(self._find_global, module, name))

    def _push_persistent(self) -> None:
        identity = self._stack.pop()
        parts = identity if type(identity) is tuple else ()
        found = self._made(lambda *_: self._find_persistent(identity), *parts)
        if type(found) is not Refused:
            self._persistent.add(identity)
        self._push_container(found)

    def _reduce(self) -> None:
        arguments, constructor = self._stack.pop(), self._stack.pop()
        if type(constructor) is Refused:
            self._stack.append(constructor)
            return
        if type(constructor) is not Constructor or type(arguments) is not tuple:
            self._fail(f"calls {repr_short(constructor)}, which is not a function")
        # A call may walk or copy its arguments, and the memo can pass one long argument many times.
        self._called_with += sum(len(value) for value in arguments if type(value) in (dict, tuple))
        if self._called_with > len(self._program):
            self._fail("passes more values to its calls than it holds")

        def build(*arguments: Any) -> Any:
            try:
                return constructor.build(*arguments)
            except TypeError:
                self._fail(
                    f"calls {constructor.name} with arguments that torch.save does not write"
                )

        self._push_container(self._made(build, *arguments))

    def _build(self) -> None:
        state = self._stack.pop()
        is_metadata = type(state) is dict and state.keys() == {"_metadata"}
        if type(self._stack[-1]) is Refused:
            return
        # `nn.Module.state_dict()` carries this one attribute, versions of modules; we have no use.
        if type(self._stack[-1]) is not dict or not is_metadata:
            self._fail("sets attributes of an object")

    def _new_object(self) -> None:
        """Go on after the object of a class that is refused; no other class can be here."""
        arguments, refused = self._stack.pop(), self._stack.pop()
        if type(refused) is not Refused or type(arguments) is not tuple:
            self._unknown(NEWOBJ)
        self._stack.append(refused)

    def _unknown(self, opcode: bytes) -> NoReturn:
        raise CheckpointError(
            f"data.pkl has opcode {opcode!r} at byte {self._position - 1}, "
            "which torch.save does not write"
        )


_OPERATIONS: Mapping[bytes, Callable[[PickleMachine], None]] = {
    NONE: lambda machine: machine._stack.append(None),
    NEWTRUE: lambda machine: machine._stack.append(True),
    NEWFALSE: lambda machine: machine._stack.append(False),
    BININT: lambda machine: machine._push_number("<i"),
    BININT1: lambda machine: machine._push_number("B"),
    BININT2: lambda machine: machine._push_number("<H"),
    LONG1: PickleMachine._push_integer,
    BINFLOAT: lambda machine: machine._push_number(">d"),
    BINUNICODE: PickleMachine._push_text,
    EMPTY_LIST: lambda machine: machine._push_container([]),
    APPEND: lambda machine: machine._append([machine._stack.pop()]),
    APPENDS: lambda machine: machine._append(machine._pop_to_mark()),
    EMPTY_DICT: lambda machine: machine._push_container({}),
    SETITEM: PickleMachine._set_item,
    SETITEMS: lambda machine: machine._set_items(machine._pop_to_mark()),
    EMPTY_TUPLE: lambda machine: machine._stack.append(()),
    TUPLE: PickleMachine._push_tuple_to_mark,
    TUPLE1: lambda machine: machine._push_tuple(1),
    TUPLE2: lambda machine: machine._push_tuple(2),
    TUPLE3: lambda machine: machine._push_tuple(3),
    MARK: PickleMachine._mark,
    BINPUT: lambda machine: machine._memoize(machine._number("B")),
    LONG_BINPUT: lambda machine: machine._memoize(machine._number("<I")),
    BINGET: lambda machine: machine._recall(machine._number("B")),
    LONG_BINGET: lambda machine: machine._recall(machine._number("<I")),
    GLOBAL: PickleMachine._push_global,
    BINPERSID: PickleMachine._push_persistent,
    REDUCE: PickleMachine._reduce,
    NEWOBJ: PickleMachine._new_object,
    BUILD: PickleMachine._build,
}
