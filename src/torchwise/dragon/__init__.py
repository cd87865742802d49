"""The SGD of `dragon.vm.torch.optim`: the learning rate is inside the momentum buffer."""

from torchwise.dragon.conversion import torch_buffers_from_dragon, velocities_from_torch
from torchwise.dragon.optimizer import SGD
from torchwise.dragon.rule import sgd
from torchwise.dragon.trace_with_lr import trace_with_lr

__all__ = ["SGD", "sgd", "torch_buffers_from_dragon", "trace_with_lr", "velocities_from_torch"]
