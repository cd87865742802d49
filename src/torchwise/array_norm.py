"""L2 norms of arrays of any type and layout, in little memory."""

import math
from collections.abc import Iterator

import numpy as np

from torchwise.checkpoint.progress import advanced

_CHUNK = 2**16


def norm(array: np.ndarray) -> float | None:
    """Return the L2 norm, in double precision; where squares overflow, of the array over its peak.

    The elements are read in chunks. A dimension that repeats one element costs nothing, as those of
    an expanded tensor, which may have more elements than any memory.

    Returns:
        The norm; None where dimensions overlap, so that the elements are more than their memory.
    """
    if array.size == 0:
        return 0.0
    axes = list(zip(array.shape, array.strides, strict=True))
    repeated = [size > 1 and stride == 0 for size, stride in axes]
    repeats = math.prod(size for (size, _), again in zip(axes, repeated) if again)
    once = array[tuple(0 if again else slice(None) for again in repeated)]
    once = np.asarray(once, array.dtype)  # a scalar, if all dimensions repeat
    reach = sum((size - 1) * abs(stride) for size, stride in zip(once.shape, once.strides))
    if once.size > 1 + reach // once.itemsize:
        return None
    with np.errstate(all="ignore"):  # of NaN and infinities, which the result tells
        peak = float(np.max([np.max(np.abs(chunk)) for chunk in _chunks(once)]))
        if peak == 0.0 or not math.isfinite(peak):
            return peak
        squares = sum(float(np.sum(np.square(np.abs(chunk / peak)))) for chunk in _chunks(once))
    return peak * math.sqrt(squares) * math.sqrt(repeats)


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    wide = np.complex128 if array.dtype.kind == "c" else np.float64
    for chunk in np.nditer(array, ["external_loop", "buffered"], buffersize=_CHUNK):
        elements = np.asarray(chunk)
        yield elements.astype(wide)
        advanced(elements.nbytes // 2)  # a norm reads them twice
