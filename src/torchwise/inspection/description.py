"""What a checkpoint holds, as lines of text.

A few bytes of a file can name one value in many places, or be a name that stands before every line.
So each value is described once, every text has a bound, and so has all of it together.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from torchwise.array_norm import norm
from torchwise.inspection.kinds import is_container, is_optimizer
from torchwise.inspection.values import counted, cut, name_text, shortened, shown, table
from torchwise.state_dict.groups import name_of

_HIDDEN = ("params", "param_names")
_MAX_COLUMNS = 12  # LBFGS has eleven kinds of state
_MAX_CELLS = 4  # of an entry that is described again, where several parameters have one
_MAX_CHARACTERS = 20_000_000


def describe(value: Any) -> Iterator[str]:
    """Yield lines about the optimizers, models and other values of a checkpoint.

    Args:
        value: what `torchwise.checkpoint.load` returned.
    """
    left = _MAX_CHARACTERS
    for line in _Description().lines(value, ()):
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

    def lines(self, value: Any, path: tuple[str, ...]) -> Iterator[str]:
        where = shortened(".".join(path)) or "(the whole file)"
        if is_container(value) and len(value) and not isinstance(value, np.ndarray):
            first = self._places.setdefault(id(value), where)
            if first is not where:
                yield f"{where}: the same as {first}"
                return
        if is_optimizer(value):
            yield f"{where}: optimizer, {counted(len(value['param_groups']), 'group')}"
            yield from self._optimizer(value)
        elif isinstance(value, Mapping) and any(isinstance(x, np.ndarray) for x in value.values()):
            tensors = {key: x for key, x in value.items() if isinstance(x, np.ndarray)}
            yield f"{where}: {counted(len(tensors), 'tensor')}"
            rows = [[name_text(key), *self._tensor(x)] for key, x in tensors.items()]
            yield from table(["name", "shape", "dtype", "norm"], rows)
            for key, other in value.items():
                if key not in tensors:
                    yield from self.lines(other, (*path, name_text(key)))
        elif isinstance(value, Mapping) and value:
            for key, other in value.items():
                yield from self.lines(other, (*path, name_text(key)))
        elif isinstance(value, list | tuple) and any(is_container(x) for x in value):
            for index, other in enumerate(value):
                yield from self.lines(other, (*path, str(index)))
        elif isinstance(value, np.ndarray):
            yield f"{where}: {'  '.join(self._tensor(value))}"
        else:
            yield f"{where}: {shown(value)}"

    def _optimizer(self, state_dict: Mapping[str, Any]) -> Iterator[str]:
        groups: dict[int, int] = {}
        for index, group in enumerate(state_dict["param_groups"]):
            first = groups.setdefault(id(group), index)
            if first != index:
                yield f"group {index}: the same as group {first}"
                continue
            ids = group["params"]
            yield f"group {index}: {name_of(group)}, {counted(len(ids), 'parameter')}"
            for key, value in group.items():
                if key not in _HIDDEN:
                    yield f"  {name_text(key)} = {shown(value)}"
            yield from self._parameters(group, state_dict["state"])

    def _parameters(self, group: Mapping[str, Any], state: Mapping[Any, Any]) -> Iterator[str]:
        ids, names = group["params"], group.get("param_names", ())
        entries = [state.get(identity, {}) for identity in ids]
        distinct = {id(entry): entry for entry in entries}.values()
        keys = list(dict.fromkeys(key for entry in distinct for key in entry))
        columns = keys[:_MAX_COLUMNS]
        with_norm = {
            key
            for entry in distinct
            for key in columns
            if isinstance(entry.get(key), np.ndarray) and entry[key].ndim
        }
        cells = {
            id(entry): [*self._shape(entry), *(self._cell(entry.get(key)) for key in columns)]
            for entry in distinct
        }
        rows = []
        for i, (one, entry) in enumerate(zip(ids, entries)):
            name = name_text(names[i]) if i < len(names) else "-"
            rows.append([name_text(one), name, *cells[id(entry)]])
            if len(entry) > _MAX_CELLS:
                cells[id(entry)] = [f"as {name_text(one)}", *[""] * (len(columns) + 1)]
        header = [f"|{cut(key)}|" if key in with_norm else cut(key) for key in columns]
        yield from table(["id", "name", "shape", "dtype", *header], rows)
        if len(keys) > len(columns):
            yield f"  and {counted(len(keys) - len(columns), 'more key')} of state"

    def _shape(self, entry: Mapping[Any, Any]) -> list[str]:
        """Shape and type of a parameter, as far as its state tells: those of its largest array."""
        arrays = [value for value in entry.values() if isinstance(value, np.ndarray)]
        if not arrays:
            return ["-", "-"]
        largest = max(reversed(arrays), key=lambda array: (array.ndim, array.size))
        return [cut(shown(largest.shape)), largest.dtype.name]

    def _cell(self, value: Any) -> str:
        if isinstance(value, np.ndarray):
            return self._norm(value) if value.ndim else shown(value)
        return "-" if value is None else cut(shown(value))

    def _tensor(self, array: np.ndarray) -> list[str]:
        return [shown(array.shape), array.dtype.name, self._norm(array)]

    def _norm(self, array: np.ndarray) -> str:
        if id(array) not in self._norms:
            length = norm(array)
            self._norms[id(array)] = "-" if length is None else f"{length:.6g}"
        return self._norms[id(array)]
