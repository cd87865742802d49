"""Reading torch's checkpoints (`.pt`, `.pth` and other suffixes) without torch."""

from typing import Any

import numpy as np

from torchwise.checkpoint.budget import budget_of
from torchwise.checkpoint.content import Content
from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.explanations import RESAVE, other_start
from torchwise.checkpoint.formats import METADATA_MEMBER
from torchwise.checkpoint.legacy_reader import is_legacy, read_legacy
from torchwise.checkpoint.pickle_program import Program
from torchwise.checkpoint.pickles import read_pickle
from torchwise.checkpoint.storages import Storage, check_identity
from torchwise.checkpoint.structure import parse_json
from torchwise.checkpoint.zip_archive import MAGIC, ZipArchive


def read_pt(content: Content, records: bool = False) -> Any:
    """Read a checkpoint that `torch.save` wrote.

    Args:
        content: of the file.
        records: whether objects of classes that are not known become records.

    Returns:
        Plain python values; arrays are read-only views of the content's storages.
    """
    if is_legacy(content):
        return read_legacy(content, records)
    start = content.read(0, 512)
    if not start.startswith(MAGIC):
        unlike = "is not a torch checkpoint: it does not start like a zip file"
        raise CheckpointError(other_start(start) or unlike)
    archive = ZipArchive(content)
    if "byteorder" in archive and archive.read("byteorder") != b"little":
        raise CheckpointError(f"was written on a big-endian machine; {RESAVE}")
    program = Program(archive.read("data.pkl"), "data.pkl")
    storages = _Storages(archive)
    value = read_pickle(program, budget_of(content.size), storages.find, records)
    if program.position != len(program):
        program.fail("stops before its end")
    return value


def read_pt_metadata(content: Content) -> dict[str, str]:
    """Read the strings that `write_pt` has kept beside the value; a file of torch's has none."""
    archive = ZipArchive(content)
    if METADATA_MEMBER not in archive:
        return {}
    metadata = parse_json(archive.read(METADATA_MEMBER).decode("utf-8", "replace"))
    if type(metadata) is not dict or any(type(text) is not str for text in metadata.values()):
        raise CheckpointError(f"has a {METADATA_MEMBER} that is not a JSON object of strings")
    return metadata


class _Storages:
    """Members `data/N` of an archive, each read once however many tensors share it."""

    def __init__(self, archive: ZipArchive) -> None:
        self._archive = archive
        self._members: dict[str, np.ndarray] = {}

    def find(self, identity: Any) -> Storage:
        """Resolve a persistent id: `("storage", type, member, device, number of elements)`."""
        check_identity(identity)
        _, kind, key, _, count = identity
        size = self._archive.size(f"data/{key}")
        if count * kind.dtype.itemsize != size:
            raise CheckpointError(
                f"has {size} bytes in data/{repr_short(key)[1:-1]}, where the pickle wants "
                f"{count} elements of {kind.dtype.itemsize} bytes"
            )
        if key not in self._members:
            self._members[key] = self._archive.storage(f"data/{key}")
        return Storage(kind, self._members[key])
