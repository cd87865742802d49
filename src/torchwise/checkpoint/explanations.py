"""What files and objects are that cannot be loaded, and what to do with them."""

from collections.abc import Collection

from torchwise.checkpoint.errors import repr_short
from torchwise.checkpoint.records import Name, Record

RESAVE = "load it in torch with weights_only=True and save it again with torch.save(object, path)"
_TORCHSCRIPT = (
    "is a TorchScript archive, that is, a program: "
    "torch.save(torch.jit.load(path).state_dict(), new_path) writes its tensors"
)
_EXPORT = (
    "is an archive of torch.export, that is, a program: "
    "torch.save(torch.export.load(path).state_dict, new_path) writes its tensors"
)


def unknown(found: Name | Record) -> str:
    """Say what it means that a value is the object of a class that is not known.

    Args:
        found: stands for the object, or for the class itself.
    """
    name = str(found) if isinstance(found, Name) else found.name
    return (
        f"names {repr_short(name)}, which is no plain data: with records=True, load() puts a "
        "record in its place and runs nothing of it"
    )


def zip_kind(members: Collection[str]) -> str | None:
    """Say what a zip file is that `torch.save` did not write, or None if it may have done.

    Args:
        members: names of all of them.
    """
    folders = {name.partition("/")[0] for name in members}
    inner = {name.partition("/")[2] for name in members}
    if "archive_format" in inner | set(members):
        return _EXPORT
    if "constants.pkl" in inner:
        return _TORCHSCRIPT
    if len(folders) == 1 and "data.pkl" in inner and all("/" in name for name in members):
        return None
    if "data.pkl" in inner | set(members):
        return "is not a torch checkpoint: its members are not in one folder"
    inside = sorted(name for name in members if name.endswith((".pt", ".pth", ".safetensors")))
    if inside:
        shown = ", ".join(repr_short(name) for name in inside[:3])
        return f"is a zip file with checkpoints inside: unzip it, and load its members, as {shown}"
    shown = ", ".join(repr_short(name) for name in sorted(members)[:3]) or "nothing"
    return f"is a zip file, but none of torch.save, which has a member data.pkl; it holds {shown}"


def other_start(start: bytes) -> str | None:
    """Say what a file is that starts neither like a zip file nor like one of old torch, if known.

    Args:
        start: its first 512 bytes.
    """
    if start[257:262] == b"ustar":
        return f"is in torch's oldest format, a tar file; {RESAVE}"
    if start[:1] == b"\x80" and start[1:2] <= b"\x05":
        return (
            "is a pickle that torch.save did not write; load it where it was made, and save plain "
            "data with torch.save(object, path)"
        )
    if start.startswith(b"\x1f\x8b"):
        return "is compressed by gzip: uncompress it first"
    if start.startswith(b"\x89HDF"):
        return "is an HDF5 file, as Keras writes it, and no checkpoint of torch"
    if start.startswith(b"\x93NUMPY"):
        return "is an array of numpy: numpy.load(path) reads it"
    return None
