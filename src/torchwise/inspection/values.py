"""How one value is shown, on one line of bounded length: the one place that knows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from torchwise.checkpoint.records import Record

MAX_TEXT = 200
_MAX_CELL = 40  # of the table of an optimizer; names may have MAX_TEXT
_LONG = 20  # a list of more numbers is shown by the first and the last


def name_text(key: Any) -> str:
    """Return a key of a file as a name, in at most 200 characters."""
    return shortened(key if isinstance(key, str) else shown(key))


def path_text(path: Iterable[Any]) -> str:
    """Return the keys and indices that lead to a value, joined by dots."""
    return shortened(".".join(name_text(key) for key in path))


def joined_names(keys: Sequence[Any]) -> str:
    """Return as many of some names as fit into 200 characters."""
    text = ", ".join(name_text(key) for key in keys[:MAX_TEXT])
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


def printable(line: str) -> str:
    """Return a line without control characters: names in a file must not command the terminal."""
    return "".join(x if x.isprintable() else ascii(x)[1:-1] for x in line)


def cut(text: Any) -> str:
    """Return what fits into a cell of a table."""
    return shortened(text if isinstance(text, str) else shown(text), _MAX_CELL)


def shortened(text: str, length: int = MAX_TEXT) -> str:
    """Return a text without its middle, if it is long: of a long path, the end says most."""
    if len(text) <= length:
        return text
    return f"{text[: length // 3]}...{text[len(text) - (length - length // 3 - 3) :]}"


def shown(value: Any) -> str:
    """Return a value on one line, in at most 200 characters, and not in more work."""
    if isinstance(value, np.ndarray):
        value = value.item() if value.size == 1 else (value.shape, value.dtype.name)
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list | tuple) and len(value) > _LONG and all(map(_is_number, value)):
        first, second, last = (cut(shown(value[index])) for index in (0, 1, -1))
        return f"{len(value)} numbers, {first}, {second}, ..., {last}"
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) > MAX_TEXT:
            return f"{text[: MAX_TEXT - 3]}..."
    return text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pieces(value: Any) -> Iterator[str]:
    """Yield the `repr` of nested containers piece by piece."""
    if isinstance(value, str | bytes | bytearray):
        yield repr(value[: MAX_TEXT + 1])
    elif isinstance(value, np.ndarray):
        yield shown(value)
    elif isinstance(value, Record) and not value.attributes and value.arguments:
        yield shortened(value.name)
        yield from _pieces(value.arguments)
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


def counted(count: int, word: str) -> str:
    """Return a number of things, in words."""
    return f"{count} {word}" + ("" if count == 1 else "s")


def table(header: list[str], rows: Sequence[list[str]]) -> Iterator[str]:
    """Yield the lines of a table, indented by two spaces."""
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    for row in (header, *rows):
        padded = (cell.ljust(width) for cell, width in zip(row, widths))
        yield f"  {'  '.join(padded)}".rstrip()
