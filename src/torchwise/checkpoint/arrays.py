"""Arrays of numpy, JAX and torch, as numpy arrays."""

import sys
from typing import Any

import numpy as np

from torchwise.checkpoint.dtypes import BY_TORCH, element_type

_REGISTERED = 2  # `isbuiltin` of the dtypes of ml_dtypes, which torch cannot hand to numpy


def as_numpy(value: Any, failure: str) -> np.ndarray | None:
    """View an array of any of the three libraries as a numpy array; None for anything else.

    Neither JAX nor torch is imported: a value of theirs can only exist where they already are.

    Args:
        value: anything.
        failure: what cannot be done without the array; the text of an error begins with it.

    Raises:
        TypeError: an array whose type no checkpoint holds.
    """
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    try:
        if torch is not None and isinstance(value, torch.Tensor):
            array = _from_torch(value, torch)
        elif isinstance(value, np.ndarray) or (jax and isinstance(value, jax.Array)):
            array = _from_numpy(value) if isinstance(value, np.ndarray) else np.asarray(value)
        else:
            return None
    except (TypeError, RuntimeError) as error:
        raise TypeError(f"{failure}: {error}") from error
    if element_type(array.dtype) is None:
        raise TypeError(f"{failure}: torch has no dtype {array.dtype}")
    return array


def _from_numpy(value: np.ndarray) -> np.ndarray:
    """Refuse what is more than its elements, which are all that a checkpoint keeps."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError("a masked array would lose its mask; save array.data and array.mask")
    if type(value) not in (np.ndarray, np.memmap):
        raise TypeError(
            f"only its elements can be saved of a {type(value).__name__}; save numpy.asarray(array)"
        )
    return np.asarray(value)


def _from_torch(tensor: Any, torch: Any) -> np.ndarray:
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        raise TypeError("only dense tensors with data can be saved")
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    row = BY_TORCH.get(str(tensor.dtype).removeprefix("torch."))
    if row is None:
        raise TypeError(f"numpy has no dtype {tensor.dtype}")
    if row.numpy.isbuiltin != _REGISTERED:
        return tensor.numpy()
    carrier = torch.int16 if row.numpy.itemsize == 2 else torch.uint8
    return tensor.view(carrier).numpy().view(row.numpy)


def storage_bytes(array: np.ndarray) -> memoryview:
    """Elements of an array in row-major order and little-endian, without a copy where they are."""
    dtype = array.dtype.newbyteorder("<")
    row_major = np.ascontiguousarray(array, dtype).reshape(-1)
    return row_major.view(np.uint8).data
