"""The kinds of tensors that no numpy array is: sparse, quantized, nested, and without data.

A sparse tensor is not made dense, since ten entries may stand for a shape that fits into no memory,
and a quantized one keeps its integers, so that both can be written back as they were.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class MetaTensor:
    """A tensor on torch's meta device; `jax.eval_shape` takes it for an array.

    Attributes:
        shape: its sizes.
        dtype: its element type.

    Examples:
        >>> import jax, numpy as np
        >>> from torchwise.checkpoint import MetaTensor
        >>> jax.eval_shape(lambda x: x.T, MetaTensor((2, 3), np.dtype("float32")))
        ShapeDtypeStruct(shape=(3, 2), dtype=float32)
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    def __repr__(self) -> str:
        return f"<MetaTensor {self.shape} {self.dtype.name}>"


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class QuantizedTensor:
    """A quantized tensor: integers, and what they stand for.

    Attributes:
        values: the integers, as torch's `int_repr()`.
        scale: of all of them, or (size of the axis,) numbers.
        zero_point: likewise.
        axis: the dimension along which scale and zero point differ, or None.
        scheme: torch's name of it, e.g. `per_tensor_affine`.

    Examples:
        >>> import numpy as np
        >>> from torchwise.checkpoint import QuantizedTensor
        >>> values = np.array([3, 5], np.uint8)
        >>> QuantizedTensor(values, 0.5, 3, None, "per_tensor_affine").dequantize()
        array([0., 1.], dtype=float32)
    """

    values: np.ndarray
    scale: float | np.ndarray
    zero_point: int | np.ndarray
    axis: int | None
    scheme: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the tensor."""
        return self.values.shape

    def __repr__(self) -> str:
        return f"<QuantizedTensor {self.shape} {self.values.dtype.name}, {self.scheme}>"

    def dequantize(self) -> np.ndarray:
        """Return `(values - zero_point) * scale` in float32, as torch's `dequantize()`."""
        scale, zero_point = np.asarray(self.scale), np.asarray(self.zero_point)
        if self.axis is not None:
            sizes = [1] * self.values.ndim
            sizes[self.axis] = -1
            scale, zero_point = scale.reshape(sizes), zero_point.reshape(sizes)
        if zero_point.dtype.kind == "f":  # torch then adds the offset last
            values = self.values.astype(np.float32) * scale.astype(np.float32)
            return values + zero_point.astype(np.float32)
        centred = (self.values.astype(np.int64) - zero_point).astype(np.float32)
        return centred * scale.astype(np.float32)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class NestedTensor:
    """A nested tensor: tensors whose sizes differ.

    Attributes:
        tensors: as torch's `unbind()` gives them.

    Examples:
        >>> import numpy as np
        >>> from torchwise.checkpoint import NestedTensor
        >>> NestedTensor((np.ones(2), np.ones(3)))
        <NestedTensor of 2>
    """

    tensors: tuple[np.ndarray, ...]

    def __repr__(self) -> str:
        return f"<NestedTensor of {len(self.tensors)}>"


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class SparseTensor:
    """A sparse tensor, in one of torch's layouts.

    Attributes:
        layout: `sparse_coo`, `sparse_csr`, `sparse_csc`, `sparse_bsr` or `sparse_bsc`.
        shape: sizes of the dense tensor.
        indices: (sparse dimensions, entries) for `sparse_coo`; else the pair of torch's compressed
            indices and plain indices, (*batch, compressed size + 1) and (*batch, entries).
        values: (entries, *dense sizes); (*batch, entries, *block, *dense sizes) of other layouts.
        is_coalesced: whether each place is named once, in order; None where the file does not say.

    Examples:
        >>> import numpy as np
        >>> from jax.experimental import sparse
        >>> from torchwise.checkpoint import SparseTensor
        >>> x = SparseTensor("sparse_coo", (3,), np.array([[2]]), np.ones(1, np.float32))
        >>> x.todense()
        array([0., 0., 1.], dtype=float32)
        >>> sparse.BCOO((x.values, x.indices.T), shape=x.shape)  # a gradient for JAX
        BCOO(float32[3], nse=1)
    """

    layout: str
    shape: tuple[int, ...]
    indices: np.ndarray | tuple[np.ndarray, np.ndarray]
    values: np.ndarray
    is_coalesced: bool | None = None

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""
        return self.values.dtype

    def __repr__(self) -> str:
        return f"<SparseTensor {self.shape} {self.dtype.name}, {self.layout}>"

    def todense(self) -> np.ndarray:
        """Return the dense array; entries of one place are added."""
        dense = np.zeros(self.shape, self.values.dtype)
        if isinstance(self.indices, np.ndarray):
            np.add.at(dense, tuple(self.indices), self.values)
            return dense
        compressed, plain = self.indices
        batch = compressed.ndim - 1
        block = self.values.shape[batch + 1 : batch + 3] if "bs" in self.layout else (1, 1)
        rows, columns = (size // b for size, b in zip(self.shape[batch:], block))
        split = dense.reshape(
            *self.shape[:batch], rows, block[0], columns, block[1], *self.shape[batch + 2 :]
        )
        values = self.values.reshape(
            *self.values.shape[: batch + 1], *block, *self.shape[batch + 2 :]
        )
        by_column = self.layout.endswith("c")
        for place in np.ndindex(self.shape[:batch]):
            outer = np.repeat(np.arange(compressed.shape[-1] - 1), np.diff(compressed[place]))
            row, column = (plain[place], outer) if by_column else (outer, plain[place])
            where: Any = (row, slice(None), column)
            np.add.at(split[place], where, values[place])
        return dense

    def problem(self) -> str | None:
        """Return what keeps the indices from naming places of the tensor, or None."""
        return self._coo_problem() if isinstance(self.indices, np.ndarray) else self._csr_problem()

    def _coo_problem(self) -> str | None:
        indices, values = self.indices, self.values
        assert isinstance(indices, np.ndarray)
        if indices.ndim != 2 or indices.dtype != np.int64 or len(indices) > len(self.shape):
            return "indices that are no matrix of int64"
        if values.shape != (indices.shape[1], *self.shape[len(indices) :]):
            return "values that do not fit its indices"
        sizes = np.array(self.shape[: len(indices)], np.int64).reshape(-1, 1)
        outside = indices.size and bool(((indices < 0) | (indices >= sizes)).any())
        return "indices outside of its shape" if outside else None

    def _csr_problem(self) -> str | None:
        compressed, plain = self.indices
        batch, shape = compressed.ndim - 1, self.shape
        if any(x.dtype not in (np.int64, np.int32) for x in (compressed, plain)):
            return "indices that are no integers"
        if not 0 <= batch <= len(shape) - 2 or plain.ndim != batch + 1:
            return "indices that do not fit its shape"
        blocked = 2 * ("bs" in self.layout)
        block = self.values.shape[batch + 1 :][:2] if blocked else (1, 1)
        if len(block) != 2 or 0 in block or any(n % b for n, b in zip(shape[batch:], block)):
            return "blocks that do not fit its shape"
        sizes = [n // b for n, b in zip(shape[batch:], block)]
        outer, inner = sizes[::-1] if self.layout.endswith("c") else sizes
        entries = plain.shape[-1]
        tail = (*(block if blocked else ()), *shape[batch + 2 :])
        fits = (
            compressed.shape == (*shape[:batch], outer + 1)
            and plain.shape == (*shape[:batch], entries)
            and self.values.shape == (*shape[:batch], entries, *tail)
        )
        if not fits:
            return "indices that do not fit its values"
        if math.prod(compressed.shape) and (
            (compressed[..., 0] != 0).any()
            or (compressed[..., -1] != entries).any()
            or (np.diff(compressed) < 0).any()
        ):
            return "compressed indices that do not ascend"
        outside = plain.size and bool(((plain < 0) | (plain >= inner)).any())
        return "indices outside of its shape" if outside else None


OTHER_TENSORS = (MetaTensor, NestedTensor, QuantizedTensor, SparseTensor)
