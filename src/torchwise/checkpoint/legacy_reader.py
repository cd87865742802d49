"""Reading what `torch.save` wrote before version 1.6, and still writes on demand: no zip file.

Such a file is a row of pickles: a magic number, a version, sizes of types, the value, and the keys
of the storages. Behind them the storages follow, each behind its number of elements.
"""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from torchwise.checkpoint.budget import Budget, budget_of
from torchwise.checkpoint.content import Content
from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.explanations import RESAVE
from torchwise.checkpoint.pickle_machine import PickleMachine
from torchwise.checkpoint.pickle_operations import OPERATIONS
from torchwise.checkpoint.pickle_program import Program, TruncatedError
from torchwise.checkpoint.pickles import no_storage, read_pickle
from torchwise.checkpoint.records import Name
from torchwise.checkpoint.storages import Storage, StorageType, check_identity
from torchwise.checkpoint.torch_globals import Globals

_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_VERSION = 1001
_FIRST_TRY = 2**20  # bytes; the pickles of a state dict take less


def is_legacy(content: Content) -> bool:
    """Whether a file starts with the magic number."""
    return content.read(0, len(_MAGIC)) == _MAGIC


def read_legacy(content: Content, records: bool = False) -> Any:
    """Read a checkpoint of old torch.

    Args:
        content: of the file.
        records: whether objects of classes that are not known become records.
    """
    pickles = _Pickles(content)
    if pickles.plain() != _VERSION:
        raise CheckpointError(f"is in a version of torch's old format that is not known; {RESAVE}")
    system = pickles.plain()
    if type(system) is not dict or system.get("little_endian") is not True:
        raise CheckpointError(f"was written on a big-endian machine; {RESAVE}")
    start = pickles.position
    wanted = _Wanted()
    pickles.skip(wanted.find)  # where the storages are is known behind the value
    keys = pickles.plain()
    storages = _Storages(content, wanted, keys, pickles.position)
    pickles.position = start
    return pickles.read(storages.find, records)


class _Pickles:
    """The pickles of a file, one behind the other.

    Attributes:
        position: where the next one starts.
    """

    def __init__(self, content: Content) -> None:
        self._content = content
        self._budget: Budget = budget_of(content.size)
        self.position = len(_MAGIC)

    def plain(self) -> Any:
        """Read the next one, which names no storage."""
        return self.read(no_storage, False)

    def read(self, find_persistent: Callable[[Any], Any], records: bool) -> Any:
        """Read the next one."""
        return self._run(
            lambda program: read_pickle(program, self._budget, find_persistent, records)
        )

    def skip(self, find_persistent: Callable[[Any], Any]) -> None:
        """Run the next one for what it names outside of itself."""

        def run(program: Program) -> None:
            PickleMachine(program, Globals(self._budget).find, find_persistent).run(OPERATIONS)

        self._run(run)

    def _run(self, run: Callable[[Program], Any]) -> Any:
        """Run with so much of the file as the pickle turns out to need."""
        size = _FIRST_TRY
        while True:
            program = Program(self._content.read(self.position, self.position + size), "its pickle")
            try:
                value = run(program)
            except TruncatedError:
                if self.position + size >= self._content.size:
                    raise
                size *= 8
                continue
            self.position += program.position
            return value


class _Wanted:
    """Finds out which storages a value names, while there are none.

    Attributes:
        types: of the storages, with their numbers of elements, by key.
    """

    def __init__(self) -> None:
        self.types: dict[str, tuple[StorageType, int]] = {}

    def find(self, identity: Any) -> Any:
        """Remember a storage; give the class of a module."""
        if _is_module(identity):
            return identity[1]
        check_identity(identity, (tuple, type(None)))
        _, kind, key, _, count, _ = identity
        self.types.setdefault(key, (kind, count))
        raise CheckpointError("uses tensors in another way than torch.save does")


def _is_module(identity: Any) -> bool:
    """Whether a persistent id is a module's class, which stands beside its source code."""
    if type(identity) is not tuple or len(identity) != 4 or identity[0] != "module":
        return False
    return isinstance(identity[1], Name)


class _Storages:
    """The storages behind the pickles, each read once however many tensors share it."""

    def __init__(self, content: Content, wanted: _Wanted, keys: Any, position: int) -> None:
        self._content = content
        self._types = wanted.types
        self._ranges: dict[str, tuple[int, int]] = {}
        self._read: dict[str, np.ndarray] = {}
        for key in keys if type(keys) is list else ():
            if type(key) is not str or key not in wanted.types or key in self._ranges:
                raise CheckpointError(f"has the storage {repr_short(key)} that nothing names")
            kind, count = wanted.types[key]
            size = content.read(position, position + 8)
            start, stop = position + 8, position + 8 + count * kind.dtype.itemsize
            if stop > content.size:
                raise CheckpointError("is truncated")
            if size != struct.pack("<q", count):
                raise CheckpointError(f"has a storage {repr_short(key)} of another size")
            self._ranges[key] = start, stop
            position = stop
        if position != content.size:
            raise CheckpointError("has bytes behind its last storage")

    def find(self, identity: Any) -> Any:
        """Resolve `("storage", type, key, device, number of elements, part of it)`."""
        if _is_module(identity):
            return identity[1]
        check_identity(identity, (tuple, type(None)))
        _, kind, key, _, count, part = identity
        if key not in self._ranges or self._types[key] != (kind, count):
            raise CheckpointError(f"has no storage {repr_short(key)} of {count} elements")
        if key not in self._read:
            self._read[key] = self._content.storage(*self._ranges[key])
        data = self._read[key]
        if part is not None:
            _, offset, size = part if len(part) == 3 else (None, -1, -1)
            numbers = type(offset) is int and type(size) is int
            if not numbers or min(offset, size) < 0 or offset + size > count:
                raise CheckpointError(f"has a part of storage {repr_short(key)} outside of it")
            data = data[offset * kind.dtype.itemsize :][: size * kind.dtype.itemsize]
        return Storage(kind, data)
