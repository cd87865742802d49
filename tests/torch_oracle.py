"""Real torch, driven with numpy arrays."""

import contextlib
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np
import torch


def to_torch(array: np.ndarray) -> torch.Tensor:
    """A tensor of its own with the array's values and type."""
    array = np.array(array)
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy of the tensor's values in the same type."""
    tensor = tensor.detach().clone()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


class TorchRun:
    """An optimizer of torch over a list of arrays."""

    def __init__(self, optimizer: Any, params: list[np.ndarray], **hyperparameters: Any):
        self.tensors = [to_torch(param) for param in params]
        self.optimizer = optimizer(self.tensors, **hyperparameters)

    def step(self, grads: list[np.ndarray | None]) -> None:
        for tensor, grad in zip(self.tensors, grads):
            tensor.grad = to_torch(grad) if isinstance(grad, np.ndarray | np.generic) else grad
        self.optimizer.step()

    @property
    def params(self) -> list[np.ndarray]:
        return [to_numpy(tensor) for tensor in self.tensors]

    def states(self, key: str) -> list[np.ndarray | None]:
        """The state under a key, parameter by parameter; None where torch has none."""
        found = [self.optimizer.state.get(tensor, {}).get(key) for tensor in self.tensors]
        return [None if value is None else to_numpy(value) for value in found]


def coalescing_in_order():
    """Let torch add up the values of a row in the order of the entries.

    Its own sort of the indices is not stable, and its order depends on the processor.
    """
    return mock.patch.object(torch.Tensor, "coalesce", coalesced_in_order)


def coalesced_in_order(tensor: torch.Tensor) -> torch.Tensor:
    """A sparse tensor with the same sums, each added up in the order of the entries."""
    rows: dict[tuple[int, ...], torch.Tensor] = {}
    for index, value in zip(tensor._indices().T.tolist(), tensor._values()):
        rows[tuple(index)] = rows[tuple(index)] + value if tuple(index) in rows else value
    ordered = sorted(rows)
    values = torch.stack([rows[row] for row in ordered]) if rows else tensor._values()
    indices = torch.tensor(ordered).T if rows else tensor._indices()
    return torch.sparse_coo_tensor(indices, values, tensor.shape, is_coalesced=True)


@contextlib.contextmanager
def torchs_sqrt(replacement):
    """Let torch take its square roots by `replacement(tensor, original)`."""
    original, in_place = torch.Tensor.sqrt, torch.Tensor.sqrt_
    torch.Tensor.sqrt = lambda tensor: replacement(tensor, original)
    torch.Tensor.sqrt_ = lambda tensor: tensor.copy_(replacement(tensor, original))
    try:
        yield
    finally:
        torch.Tensor.sqrt, torch.Tensor.sqrt_ = original, in_place


def numpys_powers():
    """Let torch take powers of float32 numbers by numpy; its own are misrounded now and then."""
    original = torch.Tensor.__pow__

    def power(tensor, exponent):
        if tensor.ndim or tensor.dtype != torch.float32 or exponent == 3:
            return original(tensor, exponent)
        return torch.from_numpy(np.asarray(np.float32(tensor.item()) ** exponent))

    return mock.patch.object(torch.Tensor, "__pow__", power)


def correct_root(tensor: torch.Tensor) -> np.ndarray:
    """numpy's square root, which IEEE 754 defines to the bit; NaN below zero."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(to_numpy(tensor))


def correctly_rounded_sqrt():
    """Give torch correctly rounded square roots in place of MKL's."""
    return torchs_sqrt(lambda tensor, _: to_torch(correct_root(tensor)))


def counted_misrounded_roots(counts: list[np.ndarray]):
    """Count the roots of torch that are not correctly rounded, in one array for each parameter.

    A root belongs to the parameter of its shape, so no two may have the same.
    """
    by_shape = {count.shape: count for count in counts}
    assert len(by_shape) == len(counts), "two parameters have the same shape"

    def counted(tensor, original):
        root = original(tensor)
        right = correct_root(tensor)
        found = to_numpy(root)
        by_shape[found.shape][...] += (found != right) & ~np.isnan(right)
        return root

    return torchs_sqrt(counted)
