"""What tensors are views of."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from torchwise.checkpoint.dtypes import BY_STORAGE
from torchwise.checkpoint.errors import CheckpointError, repr_short
from torchwise.checkpoint.records import Name


@dataclass(frozen=True, repr=False)
class StorageType(Name):
    """Class of a storage in a persistent id.

    Attributes:
        dtype: its elements; bytes for `UntypedStorage`, whose tensors bring their own dtype.
        quantized: whether they are the integers of a quantized tensor.
    """

    dtype: np.dtype
    quantized: bool = False


@dataclass(frozen=True, slots=True)
class Storage:
    """Elements that tensors view.

    Attributes:
        type: how the pickle types them.
        data: their bytes.
    """

    type: StorageType
    data: np.ndarray


STORAGE_TYPES = {
    **{f"torch.{name}": StorageType("torch", name, row.numpy) for name, row in BY_STORAGE.items()},
    **{
        f"torch.{name}Storage": StorageType("torch", f"{name}Storage", np.dtype(dtype), True)
        for name, dtype in (("QUInt8", "u1"), ("QInt8", "i1"), ("QInt32", "<i4"))
    },
    "torch.storage.UntypedStorage": StorageType(
        "torch.storage", "UntypedStorage", np.dtype(np.uint8)
    ),
}


def check_identity(identity: Any, more: tuple[type, ...] = ()) -> None:
    """Refuse a persistent id that is not `("storage", type, key, device, number of elements)`.

    Args:
        identity: from a pickle.
        more: types of what stands behind.
    """
    parts = identity if type(identity) is tuple and len(identity) == 5 + bool(more) else ()
    if tuple(map(type, parts[:5])) != (str, StorageType, str, str, int) or not all(
        type(part) in more for part in parts[5:]
    ):
        raise CheckpointError(f"has a persistent id {repr_short(identity)} of no known kind")
    if identity[0] != "storage":
        raise CheckpointError(
            f"has a persistent {repr_short(identity[0])}; only storages are known"
        )
    if identity[3] == "meta":
        raise CheckpointError("holds a meta tensor, which has no data")
