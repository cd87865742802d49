"""What a checkpoint holds, as JSON: for programs, so nothing is folded and no name is shortened."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from torchwise.checkpoint.records import Record
from torchwise.inspection.optimizers import Group, groups_of, left_over, named_tensors
from torchwise.inspection.tensor_norms import TensorNorms
from torchwise.inspection.values import shown
from torchwise.inspection.walk import (
    Entry,
    Object,
    Optimizer,
    Same,
    Tensors,
    Value,
    entries,
)

_FORMAT = 1
_MAX_CHARACTERS = 200_000_000  # a name may be long, and stand in each entry
_MAX_SIZE = 1_000_000  # of a value that is written out: items, and characters of texts
_MAX_SIZE_OF_OPTIONS = 1000  # of one in a group, of which a file may repeat many


def describe_as_json(value: Any, file: str, metadata: Mapping[str, str] = {}) -> Iterator[str]:
    """Yield the lines of a JSON document; the page on checkpoints says what is in it.

    Args:
        value: what `torchwise.checkpoint.load` returned.
        file: the name of the file, as the document gives it.
        metadata: what `torchwise.checkpoint.metadata` returned.
    """
    start = {"format": _FORMAT, "file": file, "metadata": dict(metadata)}
    yield f'{json.dumps(start)[:-1]}, "entries": ['
    left, complete, separator = _MAX_CHARACTERS, True, ""
    for entry in _Json(value).entries():
        text = json.dumps(entry, allow_nan=False)
        left -= len(text)
        if left < 0:
            complete = False
            break
        yield f"{separator}{text}"
        separator = ","
    yield f'], "complete": {json.dumps(complete)}}}'


class _Json:
    """Entries as objects of JSON; a group is one of its own, since there may be many."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self._named = named_tensors(value)
        self._norms = TensorNorms()

    def entries(self) -> Iterator[dict[str, Any]]:
        for entry in entries(self._value, fold=False):
            path = [_key(key) for key in entry.path]
            if isinstance(entry, Optimizer):
                yield from self._optimizer(path, entry.state_dict)
            else:
                yield self._entry(path, entry)

    def _entry(self, path: list[Any], entry: Entry) -> dict[str, Any]:
        if isinstance(entry, Same):
            return {"kind": "same", "path": path, "as": [_key(key) for key in entry.first]}
        if isinstance(entry, Tensors):
            rows = [{"name": _key(key), **self._tensor(x)} for key, x in entry.tensors.items()]
            return {"kind": "tensors", "path": path, "tensors": rows}
        if isinstance(entry, Object):
            return {"kind": entry.kind, "path": path, "class": entry.name, "parts": entry.count}
        assert isinstance(entry, Value), "nothing is folded, and optimizers have their own method"
        if isinstance(entry.value, np.ndarray):
            return {"kind": "tensor", "path": path, **self._tensor(entry.value)}
        one = entry.value
        kind = one.name if isinstance(one, Record) else type(one).__name__
        return {"kind": "value", "path": path, "type": kind, "value": _plain(entry.value)}

    def _optimizer(self, path: list[Any], state_dict: Mapping[str, Any]) -> Iterator[Any]:
        count, others = len(state_dict["param_groups"]), list(map(_key, left_over(state_dict)))
        yield {"kind": "optimizer", "path": path, "groups": count, "ids_in_no_group": others}
        for index, group in enumerate(groups_of(state_dict, self._named)):
            start = {"kind": "group", "path": path, "index": index}
            if group.same is not None:
                yield {**start, "as": group.same}
                continue
            options = {str(key): _option(value) for key, value in group.options.items()}
            found = {"optimizer": group.optimizer, "options": options}
            yield {**start, **found, "parameters": list(self._parameters(group))}

    def _parameters(self, group: Group) -> Iterator[dict[str, Any]]:
        seen: dict[int, Any] = {}
        for one in group.parameters:
            first = seen.setdefault(id(one.state), one.identity)
            state = {"as": first}
            if first == one.identity or not one.state:
                state = {str(key): self._state(value) for key, value in one.state.items()}
            yield {
                "id": one.identity,
                "name": one.name if one.name is None else _key(one.name),
                "shape": None if one.shape is None else list(one.shape),
                "dtype": one.dtype,
                "state": state,
            }

    def _state(self, value: Any) -> Any:
        return self._tensor(value) if isinstance(value, np.ndarray) else _option(value)

    def _tensor(self, array: np.ndarray) -> dict[str, Any]:
        facts = _facts(array)
        return {**facts, "norm": _plain(self._norms.of(array))}


def _facts(array: np.ndarray) -> dict[str, Any]:
    facts = {"shape": list(array.shape), "dtype": array.dtype.name}
    return facts if array.ndim else {**facts, "value": _plain(array.item())}


def _key(key: Any) -> Any:
    return key if isinstance(key, str | int) else shown(key)


def _option(value: Any) -> Any:
    return _plain(value, _MAX_SIZE_OF_OPTIONS)


def _plain(value: Any, size: int = _MAX_SIZE) -> Any:
    """A value in JSON, or its length and its beginning if it is too long."""
    left = [size]
    written = _written(value, left)
    if left[0] < 0:
        return {"length": len(value), "text": shown(value)}
    return written


def _written(value: Any, left: list[int]) -> Any:
    left[0] -= 1 + (len(value) if isinstance(value, str) else 0)
    if left[0] < 0:
        return None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON has no such number
    if isinstance(value, np.ndarray):
        return _facts(value)
    if isinstance(value, Mapping):
        return {str(key): _written(item, left) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_written(item, left) for item in value]
    return shown(value)
