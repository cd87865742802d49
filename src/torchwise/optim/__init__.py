"""torch.optim's stateful face: optimizers that hold parameters and call the pure transforms."""

from torchwise.optim import dragon
from torchwise.optim.adagrad import Adagrad
from torchwise.optim.hooks import (
    RemovableHandle,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torchwise.optim.optimizer import Optimizer
from torchwise.optim.parameter import Parameter
from torchwise.optim.sgd import SGD
from torchwise.optim.torch_optimizer import TorchOptimizer

__all__ = [
    "SGD",
    "Adagrad",
    "Optimizer",
    "Parameter",
    "RemovableHandle",
    "TorchOptimizer",
    "dragon",
    "register_optimizer_step_post_hook",
    "register_optimizer_step_pre_hook",
]
