"""What a checkpoint holds, as lines of text.

A few bytes of a file can name one value in many places, or be a name that stands before every line.
So each value is described once, every text has a bound, and so has all of it together.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from torchwise.array_norm import norm
from torchwise.checkpoint import Record, module_state_dict
from torchwise.checkpoint.records import is_module
from torchwise.state_dict.groups import name_of

_HIDDEN = ("params", "param_names")
_MAX_TEXT = 200
_MAX_CELL = 40  # of the table of an optimizer; names may have _MAX_TEXT
_MAX_COLUMNS = 12  # LBFGS has eleven kinds of state
_MAX_CELLS = 4  # of an entry that is described again, where several parameters have one
_MAX_CHARACTERS = 20_000_000


def describe(value: Any, metadata: Mapping[str, str] = {}) -> Iterator[str]:
    """Yield lines about the optimizers, models and other values of a checkpoint.

    Args:
        value: what `torchwise.checkpoint.load` returned.
        metadata: what `torchwise.checkpoint.metadata` returned.
    """
    left = _MAX_CHARACTERS
    texts = (f"metadata.{_shortened(key)}: {_plain(text)}" for key, text in metadata.items())
    for line in itertools.chain(texts, _Description().lines(value, ())):
        left -= len(line)
        if left < 0:
            yield f"... and more, left out after {_MAX_CHARACTERS} characters"
            return
        # Names come from the file: they must not command the terminal.
        yield "".join(x if x.isprintable() else ascii(x)[1:-1] for x in line)


class _Description:
    """The walk over a value; it remembers where it has been, and the norms it has computed."""

    def __init__(self) -> None:
        self._places: dict[int, str] = {}
        self._norms: dict[int, str] = {}
        self._made: list[Any] = []  # alive, since identities are remembered

    def lines(self, value: Any, path: tuple[str, ...]) -> Iterator[str]:
        where = _shortened(".".join(path)) or "(the whole file)"
        filled = _is_container(value) and not isinstance(value, np.ndarray) and len(value)
        if filled or isinstance(value, Record):
            first = self._places.setdefault(id(value), where)
            if first is not where:
                yield f"{where}: the same as {first}"
                return
        if _is_optimizer(value):
            yield f"{where}: optimizer, {_counted(len(value['param_groups']), 'group')}"
            yield from self._optimizer(value)
        elif isinstance(value, Mapping) and any(isinstance(x, np.ndarray) for x in value.values()):
            tensors = {key: x for key, x in value.items() if isinstance(x, np.ndarray)}
            yield f"{where}: {_counted(len(tensors), 'tensor')}"
            rows = [[_name(key), *self._tensor(x)] for key, x in tensors.items()]
            yield from _table(["name", "shape", "dtype", "norm"], rows)
            for key, other in value.items():
                if key not in tensors:
                    yield from self.lines(other, (*path, _name(key)))
        elif isinstance(value, Mapping) and value:
            for key, other in value.items():
                yield from self.lines(other, (*path, _name(key)))
        elif isinstance(value, list | tuple) and any(_is_container(x) for x in value):
            for index, other in enumerate(value):
                yield from self.lines(other, (*path, str(index)))
        elif isinstance(value, Record):
            yield from self._record(value, path, where)
        elif isinstance(value, np.ndarray):
            yield f"{where}: {'  '.join(self._tensor(value))}"
        else:
            yield f"{where}: {_plain(value)}"

    def _record(self, record: Record, path: tuple[str, ...], where: str) -> Iterator[str]:
        parts = dict(record.parts())
        if is_module(record):
            with contextlib.suppress(TypeError):  # something else inside of it
                self._made.append(module_state_dict(record))
                yield f"{where}: module {_shortened(record.name)}"
                yield from self.lines(self._made[-1], path)
                return
        if record.attributes:
            parts.pop("state")
            parts = {**parts, **record.attributes}
        elif parts.keys() <= {"arguments"} and not any(map(_is_container, record.arguments)):
            yield f"{where}: {_shortened(record.name)}{_plain(record.arguments)}"
            return
        yield f"{where}: record {_shortened(record.name)}, {_counted(len(parts), 'part')}"
        for key, other in parts.items():
            yield from self.lines(other, (*path, _name(key)))

    def _optimizer(self, state_dict: Mapping[str, Any]) -> Iterator[str]:
        groups: dict[int, int] = {}
        for index, group in enumerate(state_dict["param_groups"]):
            first = groups.setdefault(id(group), index)
            if first != index:
                yield f"group {index}: the same as group {first}"
                continue
            ids = group["params"]
            yield f"group {index}: {name_of(group)}, {_counted(len(ids), 'parameter')}"
            for key, value in group.items():
                if key not in _HIDDEN:
                    yield f"  {_name(key)} = {_plain(value)}"
            yield from self._parameters(group, state_dict["state"])

    def _parameters(self, group: Mapping[str, Any], state: Mapping[Any, Any]) -> Iterator[str]:
        ids, names = group["params"], group.get("param_names", ())
        entries = [state.get(identity, {}) for identity in ids]
        distinct = {id(entry): entry for entry in entries}.values()
        keys = list(dict.fromkeys(key for entry in distinct for key in entry))
        shown = keys[:_MAX_COLUMNS]
        with_norm = {
            key
            for entry in distinct
            for key in shown
            if isinstance(entry.get(key), np.ndarray) and entry[key].ndim
        }
        cells = {
            id(entry): [*self._shape(entry), *(self._cell(entry.get(key)) for key in shown)]
            for entry in distinct
        }
        rows = []
        for i, (one, entry) in enumerate(zip(ids, entries)):
            name = _name(names[i]) if i < len(names) else "-"
            rows.append([_name(one), name, *cells[id(entry)]])
            if len(entry) > _MAX_CELLS:
                cells[id(entry)] = [f"as {_name(one)}", *[""] * (len(shown) + 1)]
        header = [f"|{_cut(key)}|" if key in with_norm else _cut(key) for key in shown]
        yield from _table(["id", "name", "shape", "dtype", *header], rows)
        if len(keys) > len(shown):
            yield f"  and {_counted(len(keys) - len(shown), 'more key')} of state"

    def _shape(self, entry: Mapping[Any, Any]) -> list[str]:
        """Shape and type of a parameter, as far as its state tells: those of its largest array."""
        arrays = [value for value in entry.values() if isinstance(value, np.ndarray)]
        if not arrays:
            return ["-", "-"]
        largest = max(reversed(arrays), key=lambda array: (array.ndim, array.size))
        return [_cut(_plain(largest.shape)), largest.dtype.name]

    def _cell(self, value: Any) -> str:
        if isinstance(value, np.ndarray):
            return self._norm(value) if value.ndim else _plain(value)
        return "-" if value is None else _cut(_plain(value))

    def _tensor(self, array: np.ndarray) -> list[str]:
        return [_plain(array.shape), array.dtype.name, self._norm(array)]

    def _norm(self, array: np.ndarray) -> str:
        if id(array) not in self._norms:
            length = norm(array)
            self._norms[id(array)] = "-" if length is None else f"{length:.6g}"
        return self._norms[id(array)]


def _is_container(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple | np.ndarray)


def _is_optimizer(value: Any) -> TypeGuard[Mapping[str, Any]]:
    if not isinstance(value, Mapping) or not {"state", "param_groups"} <= value.keys():
        return False
    groups, state = value["param_groups"], value["state"]
    return (
        isinstance(groups, list)
        and all(map(_is_group, groups))
        and isinstance(state, Mapping)
        and all(isinstance(entry, Mapping) for entry in state.values())
    )


def _is_group(group: Any) -> bool:
    if not isinstance(group, Mapping) or "params" not in group:
        return False
    ids, names = group["params"], group.get("param_names", ())
    return (
        isinstance(ids, list | tuple)
        and all(isinstance(identity, int | str) for identity in ids)
        and isinstance(names, list | tuple)
    )


def _name(key: Any) -> str:
    return _shortened(key if isinstance(key, str) else _plain(key))


def _cut(text: Any) -> str:
    return _shortened(text if isinstance(text, str) else _plain(text), _MAX_CELL)


def _shortened(text: str, length: int = _MAX_TEXT) -> str:
    """Leave the middle out: of a long path, the end says most."""
    if len(text) <= length:
        return text
    return f"{text[: length // 3]}...{text[len(text) - (length - length // 3 - 3) :]}"


def _plain(value: Any) -> str:
    """A value on one line, in at most 200 characters, and not in more work."""
    if isinstance(value, np.ndarray):
        value = value.item() if value.size == 1 else (value.shape, value.dtype.name)
    if isinstance(value, float):
        return f"{value:.10g}"
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) > _MAX_TEXT:
            return f"{text[: _MAX_TEXT - 3]}..."
    return text


def _pieces(value: Any) -> Iterator[str]:
    """Yield the `repr` of nested containers piece by piece."""
    if isinstance(value, str | bytes | bytearray):
        yield repr(value[: _MAX_TEXT + 1])
    elif isinstance(value, np.ndarray):
        yield _plain(value)
    elif isinstance(value, set):
        yield from _joined("{", map(_pieces, value), "}")
    elif isinstance(value, Mapping):
        yield from _joined("{", (_pair(key, item) for key, item in value.items()), "}")
    elif isinstance(value, list | tuple):
        single = isinstance(value, tuple) and len(value) == 1
        brackets = "[]" if isinstance(value, list) else "()"
        end = f",{brackets[1]}" if single else brackets[1]
        yield from _joined(brackets[0], map(_pieces, value), end)
    else:
        yield repr(value)


def _pair(key: Any, value: Any) -> Iterator[str]:
    yield from _pieces(key)
    yield ": "
    yield from _pieces(value)


def _joined(start: str, parts: Iterable[Iterable[str]], end: str) -> Iterator[str]:
    yield start
    for index, part in enumerate(parts):
        if index:
            yield ", "
        yield from part
    yield end


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" + ("" if count == 1 else "s")


def _table(header: list[str], rows: Sequence[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    for row in (header, *rows):
        padded = (cell.ljust(width) for cell, width in zip(row, widths))
        yield f"  {'  '.join(padded)}".rstrip()
