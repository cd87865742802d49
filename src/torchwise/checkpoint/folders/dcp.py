"""Reading folders of torch.distributed.checkpoint without torch, from however many processes."""

import itertools
import os
from typing import Any

import numpy as np

from torchwise.checkpoint.content import Content, Part, opened
from torchwise.checkpoint.dtypes import element_type
from torchwise.checkpoint.errors import CheckpointError, repr_short, where
from torchwise.checkpoint.folders.dcp_metadata import METADATA, Entry, Piece, read_metadata
from torchwise.checkpoint.limits import MAX_DIMENSIONS, MAX_NODES
from torchwise.checkpoint.naming import errors_naming
from torchwise.checkpoint.pt_reader import read_pt
from torchwise.checkpoint.tree import check_tree


def read_dcp(folder: str | os.PathLike[str], mmap: bool = False, records: bool = False) -> Any:
    """Read what `torch.distributed.checkpoint.save` was given, with all shards put together.

    As in torch, keys of dicts have become strings, and empty dicts are gone.

    Args:
        folder: with `.metadata` and `.distcp` files.
        mmap: whether tensors that are in one piece view the mapped file.
        records: as in `load`.

    Raises:
        CheckpointError: a file is damaged, or they do not belong together; the text names it.
    """
    path = os.path.join(folder, METADATA)
    with errors_naming(path), opened(path, mapped=False) as content:
        entries = read_metadata(content.read(0, content.size))
        _check_files(folder, entries)
    values = _values(folder, entries, mmap, records)
    with errors_naming(folder):
        whole = {i: x.whole() if isinstance(x, _Joined) else x for i, x in values.items()}
        return check_tree(
            _nested([(entry.path, whole[i]) for i, entry in enumerate(entries)]), records=records
        )


def _check_files(folder: str | os.PathLike[str], entries: list[Entry]) -> None:
    """Refuse a folder without all its files, and one that would be read more than once."""
    pieces = sorted((piece.file, piece.start, piece.stop) for e in entries for piece in e.pieces)
    for file in dict.fromkeys(file for file, _, _ in pieces):
        if not os.path.isfile(os.path.join(folder, file)):
            raise CheckpointError(f"names {repr_short(file)}, which is not in the folder")
    for one, following in itertools.pairwise(pieces):
        if one[0] == following[0] and following[1] < one[2]:
            raise CheckpointError(f"has two values in the same bytes of {repr_short(one[0])}")


def _values(
    folder: str | os.PathLike[str], entries: list[Entry], mmap: bool, records: bool
) -> dict[int, Any]:
    """Return the value of each entry, by its place; each file is opened once."""
    by_file: dict[str, list[tuple[int, Piece]]] = {}
    for index, entry in enumerate(entries):
        for piece in entry.pieces:
            by_file.setdefault(piece.file, []).append((index, piece))
    values: dict[int, Any] = {}
    for file, pieces in by_file.items():
        path = os.path.join(folder, file)
        with errors_naming(path), opened(path, mmap) as content:
            for index, piece in pieces:
                entry = entries[index]
                value = _read(content, piece, entry, records)
                if _is_whole(piece, entry):
                    values[index] = value
                else:
                    joined = values.get(index) or _Joined(entry, value.dtype)
                    joined.add(piece, value)
                    values[index] = joined
    return values


def _is_whole(piece: Piece, entry: Entry) -> bool:
    return len(entry.pieces) == 1 and piece.sizes == entry.shape and not any(piece.offsets)


def _read(content: Content, piece: Piece, entry: Entry, records: bool) -> Any:
    """Read one piece, and compare it with what `.metadata` says of it."""
    try:
        value = read_pt(Part(content, piece.start, piece.stop), records)
    except CheckpointError as error:
        raise CheckpointError(f"at {where(entry.path)}: {error}") from None
    if entry.dtype is None:
        return value
    row = element_type(value.dtype) if isinstance(value, np.ndarray) else None
    if row is None or f"torch.{row.torch}" != entry.dtype or value.shape != piece.sizes:
        raise CheckpointError(f"at {where(entry.path)}: is not what .metadata says of it")
    return value


class _Joined:
    """A tensor that is put together from pieces."""

    def __init__(self, entry: Entry, dtype: np.dtype) -> None:
        self._entry = entry
        stored = sum(piece.stop - piece.start for piece in entry.pieces)
        size = 1
        for length in entry.shape:
            size *= length
        # The file must not ask for more memory than its pieces can fill.
        if len(entry.shape) > MAX_DIMENSIONS or size * dtype.itemsize > stored:
            raise CheckpointError(f"at {where(entry.path)}: its pieces are smaller than it is")
        self._array = np.empty(entry.shape, dtype)
        self._filled = np.zeros(entry.shape, bool)

    def add(self, piece: Piece, value: np.ndarray) -> None:
        """Put a piece into its place."""
        stops = [start + size for start, size in zip(piece.offsets, piece.sizes)]
        place = tuple(map(slice, piece.offsets, stops))
        if any(stop > size for stop, size in zip(stops, self._entry.shape)):
            raise CheckpointError(f"at {where(self._entry.path)}: a piece reaches outside of it")
        if self._filled[place].any():
            raise CheckpointError(f"at {where(self._entry.path)}: two pieces overlap")
        self._array[place] = value
        self._filled[place] = True

    def whole(self) -> np.ndarray:
        """Return the tensor, once it is sure that nothing is missing."""
        if not self._filled.all():
            raise CheckpointError(f"at {where(self._entry.path)}: a piece is missing")
        self._array.flags.writeable = False
        return self._array


def _nested(items: list[tuple[tuple[str | int, ...], Any]]) -> dict[str | int, Any]:
    """Put values under their paths: dicts where a key is a string, lists where it is an index."""
    root: dict[str | int, Any] = {}
    for path, value in items:
        inner: Any = root
        for key, following in itertools.pairwise(path):
            made: Any = {} if type(following) is str else []
            inner = _at(inner, key, made, path)
            if type(inner) is not type(made):
                raise CheckpointError(f"has another value inside of {where(path)}")
        if _at(inner, path[-1], value, path) is not value:
            raise CheckpointError(f"has two values at {where(path)}")
    return root


def _at(container: Any, key: str | int, made: Any, path: tuple[str | int, ...]) -> Any:
    """Return what a container has under a key; what is made for it, if it has nothing yet."""
    if isinstance(container, dict):
        return container.setdefault(key, made)
    if not isinstance(key, int) or not 0 <= key < MAX_NODES:
        raise CheckpointError(f"has no list at {where(path)}")
    container.extend([None] * (key + 1 - len(container)))
    if container[key] is None:
        container[key] = made
    return container[key]
