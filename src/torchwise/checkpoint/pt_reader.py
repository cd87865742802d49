"""Reading torch's zip checkpoints (`.pt`, `.pth`) without torch."""

from typing import Any

import numpy as np

from torchwise.checkpoint.content import Content
from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.formats import METADATA_MEMBER
from torchwise.checkpoint.pickle_machine import PickleMachine
from torchwise.checkpoint.structure import parse_json
from torchwise.checkpoint.torch_globals import Storage, StorageType, find_global
from torchwise.checkpoint.tree import check_tree
from torchwise.checkpoint.zip_archive import MAGIC, ZipArchive

_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_RESAVE = "load it in torch with weights_only=True and save it again with torch.save(object, path)"
_IDENTITY_TYPES = (str, StorageType, str, str, int)


def read_pt(content: Content) -> Any:
    """Read a checkpoint that `torch.save` wrote.

    Args:
        content: of the file.

    Returns:
        Plain python values; arrays are read-only views of the content's storages.
    """
    _refuse_other_containers(content)
    archive = ZipArchive(content)
    if "byteorder" in archive and archive.read("byteorder") != b"little":
        raise CheckpointError(f"was written on a big-endian machine; {_RESAVE}")
    storages = _Storages(archive)
    machine = PickleMachine(archive.read("data.pkl"), find_global, storages.find)
    value = check_tree(machine.run(), machine.recalled)
    if machine.refused:  # and is not part of the value: it was an argument, or was set aside
        raise CheckpointError(machine.refused.reason)
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


def _refuse_other_containers(content: Content) -> None:
    start = content.read(0, 512)
    if start.startswith(MAGIC):
        return
    if start.startswith(_LEGACY_MAGIC):
        raise CheckpointError(f"is in torch's format from before version 1.6; {_RESAVE}")
    if start[257:262] == b"ustar":
        raise CheckpointError(f"is in torch's oldest format, a tar file; {_RESAVE}")
    raise CheckpointError("is not a torch checkpoint: it does not start like a zip file")


class _Storages:
    """Members `data/N` of an archive, each read once however many tensors share it."""

    def __init__(self, archive: ZipArchive) -> None:
        self._archive = archive
        self._members: dict[str, np.ndarray] = {}

    def find(self, identity: Any) -> Storage:
        """Resolve a persistent id: `("storage", type, member, device, number of elements)`."""
        types = tuple(map(type, identity[:6])) if type(identity) is tuple else ()
        if types != _IDENTITY_TYPES:
            raise CheckpointError(f"has a persistent id {repr_short(identity)} of no known kind")
        word, kind, key, device, count = identity
        if word != "storage":
            raise CheckpointError(f"has a persistent {repr_short(word)}; only storages are known")
        if device == "meta":
            raise CheckpointError("holds a meta tensor, which has no data")
        size = self._archive.size(f"data/{key}")
        if count * kind.dtype.itemsize != size:
            raise CheckpointError(
                f"has {size} bytes in data/{repr_short(key)[1:-1]}, where the pickle wants "
                f"{count} elements of {kind.dtype.itemsize} bytes"
            )
        if key not in self._members:
            self._members[key] = self._archive.storage(f"data/{key}")
        return Storage(kind, self._members[key])
