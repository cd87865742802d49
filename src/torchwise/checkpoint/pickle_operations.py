"""What each opcode of a pickle does to the machine: those of protocols 2 to 5 that make plain data.

Left out are those of extension registries, of old text formats, and of buffers outside of the file.
"""

from collections.abc import Callable, Mapping
from pickle import (  # the codes of the opcodes; nothing of this module is ever called
    ADDITEMS,
    APPEND,
    APPENDS,
    BINBYTES,
    BINBYTES8,
    BINFLOAT,
    BINGET,
    BININT,
    BININT1,
    BININT2,
    BINPERSID,
    BINPUT,
    BINUNICODE,
    BINUNICODE8,
    BUILD,
    BYTEARRAY8,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_SET,
    EMPTY_TUPLE,
    FRAME,
    FROZENSET,
    GLOBAL,
    LONG1,
    LONG_BINGET,
    LONG_BINPUT,
    MARK,
    MEMOIZE,
    NEWFALSE,
    NEWOBJ,
    NEWTRUE,
    NONE,
    REDUCE,
    SETITEM,
    SETITEMS,
    SHORT_BINBYTES,
    SHORT_BINSTRING,
    SHORT_BINUNICODE,
    STACK_GLOBAL,
    TUPLE,
    TUPLE1,
    TUPLE2,
    TUPLE3,
)
from typing import Any

from torchwise.checkpoint.pickle_machine import PickleMachine as Machine
from torchwise.checkpoint.records import Name, Record


def _push(machine: Machine, value: Any) -> None:
    machine.stack.values.append(value)


def _number(layout: str) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.values.append(machine.program.number(layout))


def _bytes(layout: str) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.values.append(machine.program.sized(layout))


def _text(layout: str) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.values.append(machine.program.text(layout))


def _constant(value: Any) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.values.append(value)


def _container(make: Callable[[], Any]) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.push_container(make())


def _tuple(length: int) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.push_tuple(length)


def _memoize(layout: str) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.memoize(machine.program.number(layout))


def _recall(layout: str) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.recall(machine.program.number(layout))


def _long(machine: Machine) -> None:
    _push(machine, int.from_bytes(machine.program.sized("B"), "little", signed=True))


def _set_item(machine: Machine) -> None:
    value, key = machine.stack.values.pop(), machine.stack.values.pop()
    machine.set_items([key, value])


def _add_items(machine: Machine) -> None:
    items = machine.stack.pop_to_mark()
    target = machine.stack.values[-1]
    if type(target) is not set:
        machine.program.fail("adds items to what is not a set")
    for item in items:
        machine.check_key(target, item)
        target.add(item)


def _frozen_set(machine: Machine) -> None:
    """Record what `frozenset` would make, as the file of an older protocol says it."""
    items = machine.stack.pop_to_mark()
    machine.stack.push_container(Record(Name("builtins", "frozenset"), (items,)))


def _global(machine: Machine) -> None:
    module = machine.program.line()
    machine.push_global(module, machine.program.line())


def _stack_global(machine: Machine) -> None:
    name, module = machine.stack.values.pop(), machine.stack.values.pop()
    machine.push_global(module, name)


OPERATIONS: Mapping[bytes, Callable[[Machine], None]] = {
    NONE: _constant(None),
    NEWTRUE: _constant(True),
    NEWFALSE: _constant(False),
    BININT: _number("<i"),
    BININT1: _number("B"),
    BININT2: _number("<H"),
    LONG1: _long,
    BINFLOAT: _number(">d"),
    BINUNICODE: _text("<I"),
    SHORT_BINUNICODE: _text("B"),
    BINUNICODE8: _text("<Q"),
    SHORT_BINSTRING: _text("B"),
    BINBYTES: _bytes("<I"),
    SHORT_BINBYTES: _bytes("B"),
    BINBYTES8: _bytes("<Q"),
    BYTEARRAY8: lambda machine: _push(machine, bytearray(machine.program.sized("<Q"))),
    EMPTY_LIST: _container(list),
    APPEND: lambda machine: machine.append([machine.stack.values.pop()]),
    APPENDS: lambda machine: machine.append(machine.stack.pop_to_mark()),
    EMPTY_DICT: _container(dict),
    SETITEM: _set_item,
    SETITEMS: lambda machine: machine.set_items(machine.stack.pop_to_mark()),
    EMPTY_SET: _container(set),
    ADDITEMS: _add_items,
    FROZENSET: _frozen_set,
    EMPTY_TUPLE: _constant(()),
    TUPLE: lambda machine: machine.stack.push_container(tuple(machine.stack.pop_to_mark())),
    TUPLE1: _tuple(1),
    TUPLE2: _tuple(2),
    TUPLE3: _tuple(3),
    MARK: lambda machine: machine.stack.mark(),
    BINPUT: _memoize("B"),
    LONG_BINPUT: _memoize("<I"),
    MEMOIZE: lambda machine: machine.stack.memoize(),
    BINGET: _recall("B"),
    LONG_BINGET: _recall("<I"),
    FRAME: lambda machine: machine.program.skip_frame(),
    GLOBAL: _global,
    STACK_GLOBAL: _stack_global,
    BINPERSID: Machine.push_persistent,
    REDUCE: Machine.reduce,
    NEWOBJ: Machine.new_object,
    BUILD: Machine.build,
}
