"""Which format a file is written in, and the strings that a file keeps beside its value."""

import os
from collections.abc import Mapping
from pathlib import Path

from torchwise.checkpoint.errors import CheckpointError, repr_short

TORCH, SAFETENSORS = "torch", "safetensors"
_TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".tar")  # .tar of checkpoint.pth.tar
_BY_SUFFIX = {**dict.fromkeys(_TORCH_SUFFIXES, TORCH), ".safetensors": SAFETENSORS}
SUFFIXES = f"{', '.join(_TORCH_SUFFIXES)} or .safetensors"

STRUCTURE_KEY = "torchwise.structure"
"""Entry of safetensors' metadata that holds the nested value; without it a file is a flat dict."""

DEFAULT_METADATA = {"format": "pt"}
"""What safetensors' readers of Hugging Face refuse a file without: whose names and axes it has."""

METADATA_MEMBER = "torchwise.metadata"
"""Member of a torch file with what safetensors keeps beside its tensors, as a JSON object."""


def format_of(path: str | os.PathLike[str], said: str | None = None) -> str:
    """Return `"torch"` or `"safetensors"`: what the caller said, else what the suffix says.

    torch writes its zip under any name. A name that is not known is refused all the same, since it
    may be that of another format, or misspelt.

    Raises:
        CheckpointError: neither of them says it, or the caller said something else.
    """
    known = _BY_SUFFIX.get(Path(path).suffix.lower()) if said is None else said
    if known in (TORCH, SAFETENSORS):
        return known
    if said is not None:
        raise CheckpointError(
            f"{os.fspath(path)}: format is {said!r}, but must be 'torch' or 'safetensors'"
        )
    raise CheckpointError(
        f"{os.fspath(path)}: the suffix is not one of {SUFFIXES}; pass format='torch' or "
        "format='safetensors' for another name"
    )


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the strings as a dict.

    Raises:
        TypeError: it is not made of strings.
        CheckpointError: a string cannot be written, or is under the key that says the structure.
    """
    for key, text in metadata.items():
        if type(key) is not str or type(text) is not str:
            raise TypeError(f"metadata has {repr_short(key)}: {repr_short(text)}; it holds strings")
        try:
            f"{key}{text}".encode()
        except UnicodeEncodeError:
            raise CheckpointError(
                f"metadata has {repr_short(key)}: {repr_short(text)}, which UTF-8 cannot write"
            ) from None
    if STRUCTURE_KEY in metadata:
        raise CheckpointError(f"metadata has {STRUCTURE_KEY!r}, which is written by itself")
    return dict(metadata)
