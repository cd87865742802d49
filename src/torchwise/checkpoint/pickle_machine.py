"""Interpreter for pickles, as `torch.save` and `pickle.dump` write them, that runs no code.

Why not `pickle.Unpickler` behind a scan of the opcodes: a scan has to agree with the unpickler on
every byte, and the standard `SETITEM` hashes any key, `BUILD` reaches into any object and `BINPUT`
allocates any index. Here each opcode does one checked thing, and no name is imported: a class that
is not known makes records.
"""

from collections.abc import Callable, Mapping
from pickle import PROTO, STOP  # codes of opcodes; nothing of this module is ever called
from typing import Any, NoReturn

import numpy as np

from torchwise.checkpoint.constructors import Constructor, Finisher
from torchwise.checkpoint.errors import CheckpointError, Refused, repr_short
from torchwise.checkpoint.keys import Keys
from torchwise.checkpoint.pickle_program import Program, TruncatedError
from torchwise.checkpoint.pickle_stack import Stack
from torchwise.checkpoint.records import Name, Record, tensor_key

_COPIED = (dict, tuple, list, str, bytes)  # what a call may walk or copy


class PickleMachine:
    """Runs one pickle.

    Args:
        program: the pickle.
        find_global: maps `(module, name)` to an inert object, or raises CheckpointError.
        find_persistent: maps a persistent id to an object, or raises CheckpointError.

    What one of them refuses, or a constructor, does not end the program: a `Refused` goes on in its
    place, and the walk over the result says under which key it is.

    Attributes:
        stack: of values.
        refused: the first refusal, or None.
    """

    def __init__(
        self,
        program: Program,
        find_global: Callable[[str, str], Any],
        find_persistent: Callable[[Any], Any],
    ) -> None:
        self.program = program
        self._find_global = find_global
        self._find_persistent = find_persistent
        self._keys = Keys()
        self._tensor_keys: dict[int, Record] = {}
        self._of_numpy: dict[int, np.ndarray] = {}
        self._called_with = 0
        self._refusals = 0
        self.stack = Stack(program)
        self.refused: Refused | None = None

    def run(self, operations: Mapping[bytes, Callable[["PickleMachine"], None]]) -> Any:
        """Execute the program and return the object it leaves.

        Args:
            operations: what each opcode does.
        """
        try:
            return self._run(operations)
        except TruncatedError:
            raise
        except CheckpointError as error:
            # What follows a refusal may only fail because of it.
            raise (CheckpointError(self.refused.reason) if self.refused else error) from None

    def _run(self, operations: Mapping[bytes, Callable[["PickleMachine"], None]]) -> Any:
        if self.program.take(2) not in (PROTO + bytes([version]) for version in range(2, 6)):
            self.program.fail("is not a pickle of protocol 2, which torch.save writes, up to 5")
        try:
            while (opcode := self.program.take(1)) != STOP:
                operation = operations.get(opcode)
                if operation is None:
                    self.unknown(opcode)
                operation(self)
        except IndexError:
            self.program.fail("takes more values off the stack than are there")
        return self.stack.pop_last()

    def unknown(self, opcode: bytes) -> NoReturn:
        """Refuse an opcode."""
        self.program.fail(f"has opcode {opcode!r}, which torch.save does not write")

    def append(self, items: list[Any]) -> None:
        """Append to the list that is last on the stack."""
        target = self.stack.values[-1]
        if type(target) is Refused:
            return
        if type(target) is Record:
            target.items = target.items or []
            target = target.items
        if type(target) is not list:
            self.program.fail("appends to what is not a list")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Set keys of the dict that is last on the stack; keys and values take turns."""
        target = self.stack.values[-1]
        if type(target) is Refused:
            return
        if type(target) is Record:
            target.entries = target.entries or {}
            target = target.entries
        if type(target) is not dict or len(items) % 2:
            self.program.fail("sets items of what is not a dict, or a key without a value")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) is Refused:
                continue  # and the whole pickle is refused in the end
            if type(key) is np.ndarray:
                key = self._tensor_keys.setdefault(id(key), tensor_key(key))
            self.check_key(target, key)
            target[key] = value if key not in target else self._twice(key)

    def check_key(self, target: Any, key: Any) -> None:
        """Refuse what cannot be put into a dict or set, or not without danger."""
        if not self._keys.allows(target, key):
            self.program.fail(
                f"has the key {repr_short(key)}; keys are strings, numbers, None and short tuples"
            )

    def _twice(self, key: Any) -> Refused:
        return self.refuse(
            f"has the key {repr_short(key)} twice; a torch.device or torch.dtype and the text of "
            "its name cannot be told apart"
        )

    def made(self, make: Callable[..., Any], *parts: Any) -> Any:
        """Return what is made of these parts, or why it cannot be made."""
        for part in parts:
            if type(part) is Refused:
                return part
        try:
            return make(*parts)
        except CheckpointError as error:
            return self.refuse(str(error))

    def refuse(self, reason: str) -> Refused:
        """Return a refusal; from the hundredth on the first, which bounds what they take."""
        self._refusals += 1
        refused = Refused(reason) if self._refusals < 100 else self.refused
        self.refused = self.refused or refused
        assert refused is not None
        return refused

    def push_global(self, module: Any, name: Any) -> None:
        """Push what stands for a class or function."""
        if type(module) is not str or type(name) is not str:
            self.program.fail("has a name that is no text")
        self.stack.values.append(self.made(self._find_global, module, name))

    def push_persistent(self) -> None:
        """Push what a persistent id stands for."""
        identity = self.stack.values.pop()
        parts = identity if type(identity) is tuple else ()
        found = self.made(lambda *_: self._find_persistent(identity), *parts)
        if type(found) is not Refused:
            self.stack.persistent.add(identity)
        self.stack.push_container(found)

    def reduce(self) -> None:
        """Call one of our own functions, or record the call."""
        arguments, function = self.stack.values.pop(), self.stack.values.pop()
        if type(function) is Refused:
            self.stack.values.append(function)
            return
        if not isinstance(function, Name | Record) or type(arguments) is not tuple:
            self.program.fail(f"calls {repr_short(function)}, which is not a function")
        if type(function) is not Constructor:
            self._push_record(Record(function, arguments))
            return
        # A call may walk or copy its arguments, and the memo can pass a long one many times.
        self._called_with += sum(len(value) for value in arguments if type(value) in _COPIED)
        if self._called_with > len(self.program):
            self.program.fail("passes more values to its calls than it holds")

        def build(*arguments: Any) -> Any:
            try:
                return function.build(*arguments)
            except TypeError:
                self.program.fail(f"calls {function} with arguments that torch.save does not write")

        self.stack.push_container(self.made(build, *arguments))

    def new_object(self) -> None:
        """Record an object that would be made without a call."""
        arguments, function = self.stack.values.pop(), self.stack.values.pop()
        if type(function) is Refused:
            self.stack.values.append(function)
            return
        known = type(function) is Constructor or not isinstance(function, Name | Record)
        if known or type(arguments) is not tuple:
            self.program.fail("makes an object in a way that torch.save does not write")
        self._push_record(Record(function, arguments, "new"))

    def _push_record(self, record: Record) -> None:
        record.of_numpy = self._of_numpy
        self.stack.push_container(record)
        self._finish(record)

    def _finish(self, record: Record) -> None:
        if type(record.function) is not Finisher:
            return
        value = self.made(record.function.finish, record)
        if value is not None:
            self.stack.replace_last(value)
        if type(value) is np.ndarray:
            self._of_numpy[id(value)] = value

    def build(self) -> None:
        """Keep the state of a record; drop the attributes of a dict, which are no values."""
        state, target = self.stack.values.pop(), self.stack.values[-1]
        if type(target) is Refused:
            return
        if type(target) is Record and target.state is None:
            target.state = state
            self._finish(target)
        elif type(target) is not dict or type(state) is not dict:
            self.program.fail("sets attributes of an object")
