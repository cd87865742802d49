"""torch.optim's stateful API: optimizers that hold parameters and call the pure transforms."""

from torchwise.optim.classes import SGD, Adagrad, RMSprop
from torchwise.optim.hooks import (
    RemovableHandle,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torchwise.optim.optimizer import Optimizer
from torchwise.optim.parameter import Parameter

__all__ = [
    "SGD",
    "Adagrad",
    "Optimizer",
    "Parameter",
    "RMSprop",
    "RemovableHandle",
    "register_optimizer_step_post_hook",
    "register_optimizer_step_pre_hook",
]
