"""Real torch, driven with numpy arrays."""

import contextlib
import itertools
from typing import Any

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
            tensor.grad = None if grad is None else to_torch(grad)
        self.optimizer.step()

    @property
    def params(self) -> list[np.ndarray]:
        return [to_numpy(tensor) for tensor in self.tensors]

    def states(self, key: str) -> list[np.ndarray | None]:
        """The state under a key, parameter by parameter; None where torch has none."""
        found = [self.optimizer.state.get(tensor, {}).get(key) for tensor in self.tensors]
        return [None if value is None else to_numpy(value) for value in found]


@contextlib.contextmanager
def torchs_sqrt(replacement):
    """Let torch take its square roots by `replacement(tensor, original)`."""
    original = torch.Tensor.sqrt
    torch.Tensor.sqrt = lambda tensor: replacement(tensor, original)
    try:
        yield
    finally:
        torch.Tensor.sqrt = original


def correctly_rounded_sqrt():
    """Give torch numpy's square root, which IEEE 754 defines to the bit, in place of MKL's."""
    return torchs_sqrt(lambda tensor, _: torch.as_tensor(np.sqrt(tensor.numpy())))


def counted_misrounded_roots(counts: list[np.ndarray]):
    """Count the roots of torch that are not correctly rounded, in one array a parameter.

    torch takes the roots of all parameters in turn, step after step.
    """
    turn = itertools.cycle(counts)

    def counted(tensor, original):
        root = original(tensor)
        next(turn)[...] += root.numpy() != np.sqrt(tensor.numpy())
        return root

    return torchs_sqrt(counted)
