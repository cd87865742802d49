"""What a checkpoint holds, as lines of text.

A name in a file may be long and stand before every line. So every text has a bound, and so has all
of it together.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from torchwise.inspection.optimizers import Group, Parameter, groups_of, left_over, named_tensors
from torchwise.inspection.tensor_norms import TensorNorms
from torchwise.inspection.values import (
    counted,
    cut,
    joined_names,
    name_text,
    path_text,
    printable,
    shortened,
    shown,
    table,
)
from torchwise.inspection.walk import (
    Entry,
    Folded,
    More,
    Object,
    Optimizer,
    Path,
    Same,
    Tensors,
    entries,
)

_MAX_COLUMNS = 12  # LBFGS has eleven kinds of state
_MAX_CELLS = 4  # of an entry that is described again, where several parameters have one
_MAX_CHARACTERS = 20_000_000


def describe(value: Any, metadata: Mapping[str, str] = {}, *, fold: bool = True) -> Iterator[str]:
    """Yield lines about the optimizers, models and other values of a checkpoint.

    Args:
        value: what `torchwise.checkpoint.load` returned.
        metadata: what `torchwise.checkpoint.metadata` returned.
        fold: whether to leave out long parts that hold no tensors.
    """
    left = _MAX_CHARACTERS
    texts = (f"metadata.{name_text(key)}: {shown(text)}" for key, text in metadata.items())
    for line in itertools.chain(texts, _Text(value).lines(fold)):
        left -= len(line)
        if left < 0:
            yield f"... and more, left out after {_MAX_CHARACTERS} characters"
            return
        yield printable(line)


class _Text:
    """Entries as lines; the norms and the names of the file are gathered once."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self._named = named_tensors(value)
        self._norms = TensorNorms()

    def lines(self, fold: bool) -> Iterator[str]:
        for entry in entries(self._value, fold=fold):
            yield from self._entry(entry)

    def _entry(self, entry: Entry) -> Iterator[str]:
        where = _where(entry.path)
        if isinstance(entry, Same):
            yield f"{where}: the same as {_where(entry.first)}"
        elif isinstance(entry, Optimizer):
            yield from self._optimizer(where, entry.state_dict)
        elif isinstance(entry, Tensors):
            yield f"{where}: {counted(len(entry.tensors), 'tensor')}"
            rows = [[name_text(key), *self._tensor(x)] for key, x in entry.tensors.items()]
            yield from table(["name", "shape", "dtype", "norm"], rows)
        elif isinstance(entry, Object):
            parts = f", {counted(entry.count, 'part')}" if entry.kind == "record" else ""
            yield f"{where}: {entry.kind} {shortened(entry.name)}{parts}"
        elif isinstance(entry, Folded):
            keys = joined_names(entry.keys)
            yield f"{where}: {counted(entry.count, 'value')}, folded (--all shows them): {keys}"
        elif isinstance(entry, More):
            yield f"{where}: and {counted(entry.count, 'more value')} (--all shows them)"
        elif isinstance(entry.value, np.ndarray):
            yield f"{where}: {'  '.join(self._tensor(entry.value))}"
        else:
            yield f"{where}: {shown(entry.value)}"

    def _optimizer(self, where: str, state_dict: Mapping[str, Any]) -> Iterator[str]:
        groups = []
        yield f"{where}: optimizer, {counted(len(state_dict['param_groups']), 'group')}"
        for index, group in enumerate(groups_of(state_dict, self._named)):
            groups.append(group)
            if group.same is not None:
                yield f"group {index}: the same as group {group.same}"
                continue
            name = group.optimizer or "unknown optimizer"
            yield f"group {index}: {name}, {counted(len(group.parameters), 'parameter')}"
            yield from _options(group, groups)
            yield from self._parameters(group)
        ids = left_over(state_dict)
        if ids:
            yield f"state of {counted(len(ids), 'id')} in no group: {joined_names(ids)}"

    def _parameters(self, group: Group) -> Iterator[str]:
        distinct = {id(one.state): one for one in group.parameters}
        states = [one.state for one in distinct.values()]
        keys = list(dict.fromkeys(key for state in states for key in state))
        columns = keys[:_MAX_COLUMNS]
        with_norm = {
            key
            for state in states
            for key in columns
            if isinstance(state.get(key), np.ndarray) and state[key].ndim
        }
        cells = {
            id(state): [self._cell(state.get(key)) for key in columns] for state in states if state
        }
        rows = []
        for one in group.parameters:
            row = cells.get(id(one.state), ["-"] * len(columns))
            rows.append([*_identity(one), *row])
            if len(one.state) > _MAX_CELLS:
                again = [f"as {name_text(one.identity)}", *[""] * (len(columns) - 1)]
                cells[id(one.state)] = again
        header = [f"|{cut(key)}|" if key in with_norm else cut(key) for key in columns]
        yield from table(["id", "name", "shape", "dtype", *header], rows)
        if len(keys) > len(columns):
            yield f"  and {counted(len(keys) - len(columns), 'more key')} of state"

    def _cell(self, value: Any) -> str:
        if isinstance(value, np.ndarray):
            return self._norm(value) if value.ndim else shown(value)
        return "-" if value is None else cut(shown(value))

    def _tensor(self, array: np.ndarray) -> list[str]:
        return [shown(array.shape), array.dtype.name, self._norm(array)]

    def _norm(self, array: np.ndarray) -> str:
        length = self._norms.of(array)
        return "-" if length is None else f"{length:.6g}"


def _where(path: Path) -> str:
    return path_text(path) or "(the whole file)"


def _identity(one: Parameter) -> list[str]:
    name = "-" if one.name is None else name_text(one.name)
    shape = "-" if one.shape is None else cut(shown(one.shape))
    return [name_text(one.identity), name, shape, one.dtype or "-"]


def _options(group: Group, groups: list[Group]) -> Iterator[str]:
    """Yield the hyperparameters; of a group like another one only those that differ."""
    texts = {key: shown(value) for key, value in group.options.items()}
    if group.like is None:
        yield from (f"  {name_text(key)} = {text}" for key, text in texts.items())
        return
    other = groups[group.like].options
    differing = {key: text for key, text in texts.items() if text != shown(other[key])}
    yield from (f"  {name_text(key)} = {text}" for key, text in differing.items())
    rest = "the rest " if differing else ""
    yield f"  {rest}as in group {group.like}"
