"""What `.metadata` says of a folder of torch.distributed.checkpoint: which bytes are what."""

from typing import Any, NamedTuple

from torchwise.checkpoint.budget import budget_of
from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.pickle_program import Program
from torchwise.checkpoint.pickles import read_pickle
from torchwise.checkpoint.records import Record

METADATA = ".metadata"
_TENSOR, _BYTES = "TensorStorageMetadata", "BytesStorageMetadata"


class Piece(NamedTuple):
    """A part of a tensor, or a whole value.

    Attributes:
        offsets: where it begins in the tensor, along each axis; empty for a value.
        sizes: its shape.
        file: which has it.
        start: of its bytes in the file.
        stop: of its bytes.
    """

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: str
    start: int
    stop: int


class Entry(NamedTuple):
    """A tensor, or another value.

    Attributes:
        path: keys and indices that lead to it.
        dtype: of a tensor, e.g. `torch.float32`; None for another value.
        shape: of the whole tensor.
        pieces: that it is made of; one for a value.
    """

    path: tuple[str | int, ...]
    dtype: str | None
    shape: tuple[int, ...]
    pieces: list[Piece]


def read_metadata(data: bytes) -> list[Entry]:
    """Read the entries in the order in which they were saved.

    Args:
        data: of `.metadata`.

    Raises:
        CheckpointError: it is damaged, or does not hold together.
    """
    pickled = read_pickle(Program(data, METADATA), budget_of(len(data)), records=True)
    root = _fields(pickled, "Metadata")
    described, stored = root.get("state_dict_metadata"), root.get("storage_data")
    paths = root.get("planner_data") or {}
    if not all(isinstance(table, dict) for table in (described, stored, paths)):
        raise CheckpointError("does not say what is saved where")
    assert isinstance(described, dict)
    assert isinstance(stored, dict)
    places: dict[tuple[Any, Any], dict[str, Any]] = {}
    for index, info in stored.items():
        key = _fields(index, "MetadataIndex")
        offset = key.get("offset")
        name = _checked(key.get("fqn"), str)
        at = None if offset is None else _sizes(offset)
        places[name, at] = _fields(info, "_StorageInfo")
    return [_entry(name, value, _path(name, paths), places) for name, value in described.items()]


def _entry(name: Any, described: Any, path: Any, places: dict[Any, dict[str, Any]]) -> Entry:
    if _is(described, _BYTES):
        return Entry(path, None, (), [_piece(name, None, (), places)])
    tensor = _fields(described, _TENSOR)
    properties = tensor.get("properties")
    if type(properties) is not Record or type(properties.state) not in (tuple, dict):
        raise CheckpointError(f"does not say the type of {repr_short(name)}")
    state = properties.state
    dtype = state.get("dtype") if isinstance(state, dict) else next(iter(state), None)
    shape: tuple[int, ...] = _sizes(tensor.get("size"))
    pieces: list[Piece] = []
    for chunk in _checked(tensor.get("chunks"), list):
        fields = _fields(chunk, "ChunkStorageMetadata")
        offsets, sizes = _sizes(fields.get("offsets")), _sizes(fields.get("sizes"))
        if not len(offsets) == len(sizes) == len(shape):
            raise CheckpointError(f"has a piece of {repr_short(name)} of other dimensions")
        pieces.append(_piece(name, offsets, sizes, places))
    if not pieces:
        raise CheckpointError(f"has no piece of {repr_short(name)}")
    return Entry(path, str(dtype), shape, pieces)


def _piece(name: Any, offsets: Any, sizes: Any, places: dict[Any, dict[str, Any]]) -> Piece:
    info = places.get((name, offsets))
    if info is None:
        raise CheckpointError(f"does not say where {repr_short(name)} is")
    if info.get("transform_descriptors"):
        raise CheckpointError(
            f"has {repr_short(name)} transformed by {repr_short(info['transform_descriptors'])}; "
            "save it without extensions"
        )
    file = _checked(info.get("relative_path"), str)
    if file in ("", ".", "..") or "/" in file or "\\" in file or "\0" in file:
        raise CheckpointError(f"names {repr_short(file)}, which is not a file beside it")
    start, length = _sizes((info.get("offset"), info.get("length")))
    return Piece(offsets or (), sizes, file, start, start + length)


def _path(name: Any, paths: Any) -> tuple[str | int, ...]:
    path = paths.get(name, (name,))
    if (
        type(path) is not tuple
        or not path
        or any(type(key) not in (str, int) for key in path)
        or type(path[0]) is not str
    ):
        raise CheckpointError(f"does not say under which keys {repr_short(name)} was")
    return path


def _is(value: Any, kind: str) -> bool:
    return type(value) is Record and value.name.rpartition(".")[2] == kind


def _fields(value: Any, kind: str) -> dict[str, Any]:
    """Return the attributes of an object of one of torch's classes."""
    if not _is(value, kind) or not isinstance(value.state, dict):
        raise CheckpointError(f"has {_shown(value)} where a {kind} of torch should be")
    return value.state


def _shown(value: Any) -> str:
    return repr_short(value.name) if type(value) is Record else repr_short(value)


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise CheckpointError(f"has {_shown(value)} where a {kind.__name__} should be")
    return value


def _sizes(value: Any) -> tuple[int, ...]:
    if type(value) is not tuple or any(type(x) is not int or not 0 <= x < 2**63 for x in value):
        raise CheckpointError(f"has {_shown(value)} where sizes should be")
    return value
