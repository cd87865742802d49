"""Sparse gradients for both sides."""

from typing import NamedTuple

import numpy as np
import torch
from jax.experimental.sparse import BCOO

from torch_oracle import coalesced_in_order, to_torch

torch.sparse.check_sparse_tensor_invariants.enable()  # or torch warns that it does not


class Entries(NamedTuple):
    """What a sparse gradient consists of: its indices (entries, axes), its values, its shape."""

    indices: np.ndarray
    values: np.ndarray
    shape: tuple[int, ...]

    @property
    def ours(self):
        return BCOO((self.values, self.indices), shape=self.shape)

    @property
    def theirs(self):
        return torch.sparse_coo_tensor(
            torch.tensor(self.indices.T), to_torch(self.values), self.shape
        )

    @property
    def theirs_added_up(self):
        """Each row once; not marked as coalesced, since torch has other roundings for that mark."""
        added_up = coalesced_in_order(self.theirs)
        return torch.sparse_coo_tensor(added_up.indices(), added_up.values(), self.shape)


def entries(rng, shape, axes, count, dtype, most=None):
    """Draw a gradient of so many entries; at most `most` of them name the same row."""
    rows = int(np.prod(shape[:axes]))
    pool = np.repeat(np.arange(rows), count if most is None else most)
    chosen = rng.permutation(pool)[:count]
    count = len(chosen)
    indices = np.stack(np.unravel_index(chosen, shape[:axes]), axis=-1)
    values = np.asarray(rng.normal(size=(count, *shape[axes:]))).astype(dtype)
    return Entries(indices.reshape(count, axes), values, shape)


def parameters_of(optimizer):
    """The parameters of an optimizer, ours or torch's, in the order of the groups."""
    return [one for group in optimizer.param_groups for one in group["params"]]


def step_ours(optimizer, grads):
    for parameter, grad in zip(parameters_of(optimizer), grads, strict=True):
        parameter.grad = None if grad is None else grad.ours
    optimizer.step()
