"""Loading and saving, in the format that the content and the name of a file call for."""

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from torchwise.checkpoint.atomic import replacing
from torchwise.checkpoint.content import Content, opened
from torchwise.checkpoint.errors import CheckpointError
from torchwise.checkpoint.explanations import other_start
from torchwise.checkpoint.folders.reader import is_several, read_several
from torchwise.checkpoint.formats import SAFETENSORS, TORCH, check_metadata, format_of
from torchwise.checkpoint.legacy_reader import is_legacy
from torchwise.checkpoint.naming import errors_naming, naming
from torchwise.checkpoint.pt_reader import read_pt, read_pt_metadata
from torchwise.checkpoint.pt_writer import write_pt
from torchwise.checkpoint.safetensors_reader import (
    looks_like_safetensors,
    read_metadata,
    read_safetensors,
)
from torchwise.checkpoint.safetensors_writer import write_safetensors
from torchwise.checkpoint.zip_archive import MAGIC

_READERS: dict[str, Callable[[Content, bool], Any]] = {
    ".pt": read_pt,
    ".pth": read_pt,
    ".safetensors": lambda content, records: read_safetensors(content),
}
_NAMED = ", ".join(_READERS)
_WRITERS: dict[str, Callable[[BinaryIO, Any, Mapping[str, str]], None]] = {
    TORCH: write_pt,
    SAFETENSORS: write_safetensors,
}


def load(path: str | os.PathLike[str], *, mmap: bool = False, records: bool = False) -> Any:
    """Load a checkpoint that torch, safetensors or `save` wrote; torch is not needed.

    No code of the file is run and no name in it is imported, whatever is inside.
    Arrays are read into memory of their own: what is returned does not change, whatever becomes of
    the file, and no file stays open.

    Args:
        path: the file. The content decides on the format, and the suffix (`.pt`, `.pth`,
            `.safetensors`) where the content leaves it open. It may also be several files that form
            one checkpoint: an index of shards, such as `model.safetensors.index.json`, which gives
            one dict; a folder of HF's Trainer or of accelerate, which gives a dict of its parts
            (`model`, `optimizer`, `scheduler`, `trainer_state`, `config`, ...); a folder of
            torch.distributed.checkpoint, which gives what was saved there; a folder of DeepSpeed,
            whose parts of `model` and `optimizer` are put together, next to `master_weights`.
        mmap: map the file in place of reading it: loading takes no time, and an array takes memory
            once it is used. For files that nobody writes into as long as the arrays live: if a
            program does, they change without an error, and if it makes the file shorter, the system
            kills the process (SIGBUS) at the next look at them. `save` is no danger, since it
            replaces files; `torch.save` writes into the old one.
        records: put a `Record` in the place of each object of a class that is not known, and a
            `Name` in that of such a class or function; else they are refused.

    Returns:
        The saved value in plain python types. Tensors and parameters are read-only numpy arrays
        (`bfloat16` and `float8` with the dtypes of ml_dtypes), which share memory where the tensors
        did; an `OrderedDict` is a `dict`, a `torch.Size` a `tuple`, a `torch.dtype` or
        `torch.device` its name. Tensors that no array is are a `SparseTensor`, `QuantizedTensor`,
        `NestedTensor` or `MetaTensor`. Numbers and arrays of numpy are themselves. A safetensors
        file of another writer is a dict of arrays by name.

    Raises:
        CheckpointError: the file is damaged, holds objects that are no plain data (the text says
            which, and under which key), or was changed while it was being read.
        OSError: the file cannot be opened.

    Examples:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from torchwise import checkpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "run.pt")
        ...     checkpoint.save(path, {"w": jnp.ones(2), "epoch": 3})
        ...     checkpoint.load(path)
        {'w': array([1., 1.], dtype=float32), 'epoch': 3}
    """
    if is_several(path):
        part = functools.partial(load, mmap=mmap, records=records)
        return read_several(path, part, mmap, records)
    with errors_naming(path), opened(path, mmap) as content:
        return _reader(path, content)(content, records)


def metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the strings that a file keeps beside its value, which `load` does not return.

    safetensors has a place for them, and `save` makes one in a file of torch's. Hand them on to
    keep them: `save(new, load(old), metadata=metadata(old))`, as `torchwise convert` does.

    Args:
        path: the file; a folder and an index of shards have none of their own.

    Raises:
        CheckpointError, OSError: as `load`.

    Examples:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from torchwise import checkpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "run.safetensors")
        ...     checkpoint.save(path, {"w": jnp.ones(2)}, metadata={"run": "42"})
        ...     checkpoint.metadata(path)
        {'format': 'pt', 'run': '42'}
    """
    if is_several(path):
        return {}
    with errors_naming(path), opened(path, mapped=False) as content:
        if content.read(0, len(MAGIC)) == MAGIC:
            return read_pt_metadata(content)
        return read_metadata(content) if looks_like_safetensors(content) else {}


def save(
    path: str | os.PathLike[str],
    obj: Any,
    *,
    format: str | None = None,
    metadata: Mapping[str, str] = {},
) -> None:
    """Save a value as a checkpoint, atomically: a crash leaves the old file or the new one.

    A file that is replaced keeps its permissions, and its owner and group where the system allows
    that; a symbolic link to a file stays one. What a killed process left of an earlier attempt to
    save the same file is removed.

    Args:
        path: the file to create or replace. With `.safetensors` it can be read by any safetensors
            library; with `.pt` and the other names of trainers (`.pth`, `.ckpt`, `.bin`, `.pkl`,
            `.tar`) by `torch.load(path, weights_only=True)`.
        obj: nested dicts, lists, tuples and sets of arrays of numpy, JAX or torch, strings, bytes,
            numbers, booleans and None. An array object that occurs twice is stored once. torch's
            format also takes what `load` makes of sparse, quantized and meta tensors, and records,
            which are written as the objects that they stand for; torch reads a file with those
            with `weights_only=False` only. A whole module is refused: see `module_state_dict`.
        format: `"torch"` or `"safetensors"`, for any other name; by default the suffix says it.
        metadata: strings to keep beside the value, see `metadata`. safetensors' readers want to
            know whose names and axes the tensors have: `{"format": "pt"}`, unless it is given.

    Raises:
        TypeError: something else is inside; the text says where.
        CheckpointError: the value is too deep, too large or contains itself, the suffix is another
            one and `format` is not given, or the path is that of a device, a pipe, or anything else
            that is no file.
        OSError: the file cannot be written.

    Examples:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from torchwise import checkpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "run.safetensors")
        ...     checkpoint.save(path, {"w": jnp.ones(2), "history": [0.5, None]})
        ...     checkpoint.load(path)["history"]
        [0.5, None]
    """
    writer = _WRITERS[format_of(path, format)]
    texts = check_metadata(metadata)
    try:
        with replacing(path) as file:
            writer(file, obj, texts)
    except OSError as error:
        raise naming(path, error) from error


def _suffix(path: str | os.PathLike[str]) -> str:
    return Path(path).suffix.lower()


def _reader(path: str | os.PathLike[str], content: Content) -> Callable[[Content, bool], Any]:
    is_zip = content.read(0, len(MAGIC)) == MAGIC or is_legacy(content)
    is_safetensors = looks_like_safetensors(content)
    if is_zip and not is_safetensors:
        return read_pt
    if is_safetensors and not is_zip:
        return _READERS[".safetensors"]
    reader = _READERS.get(_suffix(path))
    if reader is None:
        unlike = f"is no checkpoint, by its content or by a suffix {_NAMED}"
        raise CheckpointError(other_start(content.read(0, 512)) or unlike)
    return reader
