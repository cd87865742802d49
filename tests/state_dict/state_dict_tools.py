"""State dicts of both sides, compared key by key and bit by bit."""

import numpy as np
import torch

from distance import same_bits
from torch_oracle import to_numpy, to_torch


def assert_same_dict(ours, theirs):
    """Equal values of equal types, keys in the same order, arrays with the same bits."""
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_same_dict(ours[key], theirs[key])
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        for our, their in zip(ours, theirs):
            assert_same_dict(our, their)
    elif hasattr(theirs, "shape"):
        assert same_bits(as_numpy(ours), as_numpy(theirs))
    else:
        assert (type(ours), ours) == (type(theirs), theirs)


def as_numpy(array):
    return to_numpy(array) if isinstance(array, torch.Tensor) else np.asarray(array)


def tensors_of(arrays):
    return [torch.nn.Parameter(to_torch(array)) for array in arrays]


def step_torch(optimizer, tensors, grads):
    for tensor, grad in zip(tensors, grads):
        tensor.grad = None if grad is None else to_torch(grad)
    optimizer.step()
