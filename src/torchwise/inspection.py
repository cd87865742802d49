"""What a checkpoint holds, as lines of text."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from torchwise.state_dict.groups import name_of

_HIDDEN = ("params", "param_names")


def describe(value: Any) -> Iterator[str]:
    """Yield lines about the optimizers, models and other values of a checkpoint.

    Args:
        value: what `torchwise.checkpoint.load` returned.
    """
    for line in _describe(value, ()):
        # Names come from the file: they must not command the terminal.
        yield "".join(x if x.isprintable() else ascii(x)[1:-1] for x in line)


def _describe(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    where = ".".join(path) or "(the whole file)"
    if _is_optimizer(value):
        yield f"{where}: optimizer, {_counted(len(value['param_groups']), 'group')}"
        yield from _optimizer(value)
    elif isinstance(value, Mapping) and any(isinstance(x, np.ndarray) for x in value.values()):
        tensors = {key: x for key, x in value.items() if isinstance(x, np.ndarray)}
        yield f"{where}: {_counted(len(tensors), 'tensor')}"
        rows = [[str(key), *_tensor(x)] for key, x in tensors.items()]
        yield from _table(["name", "shape", "dtype", "norm"], rows)
        for key, other in value.items():
            if key not in tensors:
                yield from _describe(other, (*path, str(key)))
    elif isinstance(value, Mapping) and value:
        for key, other in value.items():
            yield from _describe(other, (*path, str(key)))
    elif isinstance(value, list | tuple) and any(_is_container(x) for x in value):
        for index, other in enumerate(value):
            yield from _describe(other, (*path, str(index)))
    elif isinstance(value, np.ndarray):
        yield f"{where}: {'  '.join(_tensor(value))}"
    else:
        yield f"{where}: {_plain(value)}"


def _is_container(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple | np.ndarray)


def _is_optimizer(value: Any) -> bool:
    if not isinstance(value, Mapping) or not {"state", "param_groups"} <= value.keys():
        return False
    groups, state = value["param_groups"], value["state"]
    return (
        isinstance(groups, list)
        and all(isinstance(group, Mapping) and "params" in group for group in groups)
        and isinstance(state, Mapping)
        and all(isinstance(entry, Mapping) for entry in state.values())
    )


def _optimizer(state_dict: Mapping[str, Any]) -> Iterator[str]:
    state = state_dict["state"]
    for index, group in enumerate(state_dict["param_groups"]):
        ids = list(group["params"])
        yield f"group {index}: {name_of(group)}, {_counted(len(ids), 'parameter')}"
        for key, value in group.items():
            if key not in _HIDDEN:
                yield f"  {key} = {_plain(value)}"
        names = list(group.get("param_names", ()))
        names += ["-"] * (len(ids) - len(names))
        entries = [state.get(identity, {}) for identity in ids]
        keys = list(dict.fromkeys(key for entry in entries for key in entry))
        rows = [
            [str(identity), str(name), *_shape(entry), *(_cell(entry.get(key)) for key in keys)]
            for identity, name, entry in zip(ids, names, entries)
        ]
        header = [f"|{key}|" if _has_norm(entries, key) else str(key) for key in keys]
        yield from _table(["id", "name", "shape", "dtype", *header], rows)


def _has_norm(entries: Sequence[Mapping[Any, Any]], key: Any) -> bool:
    values = [entry[key] for entry in entries if key in entry]
    return any(isinstance(value, np.ndarray) and value.ndim > 0 for value in values)


def _shape(entry: Mapping[Any, Any]) -> list[str]:
    """Shape and type of a parameter, as far as its state tells: those of its largest array."""
    arrays = [value for value in entry.values() if isinstance(value, np.ndarray)]
    if not arrays:
        return ["-", "-"]
    return _tensor(max(reversed(arrays), key=lambda array: (array.ndim, array.size)))[:2]


def _cell(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return _norm(value) if value.ndim else _plain(value)
    return "-" if value is None else _plain(value)


def _tensor(array: np.ndarray) -> list[str]:
    return [_plain(array.shape), array.dtype.name, _norm(array)]


def _norm(array: np.ndarray) -> str:
    """The L2 norm, in double precision; where a square overflows, of the array over its maximum."""
    wide = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    largest = float(np.max(np.abs(wide), initial=0.0))
    if largest == 0.0 or not math.isfinite(largest):
        return f"{largest:.6g}"
    return f"{largest * float(np.linalg.norm(np.ravel(wide / largest))):.6g}"


def _plain(value: Any) -> str:
    """A value on one line, in at most 200 characters."""
    if isinstance(value, np.ndarray):
        value = value.item() if value.size == 1 else _tensor(value)
    if isinstance(value, float):
        return f"{value:.10g}"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" + ("" if count == 1 else "s")


def _table(header: list[str], rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    for row in (header, *rows):
        padded = (cell.ljust(width) for cell, width in zip(row, widths))
        yield f"  {'  '.join(padded)}".rstrip()
