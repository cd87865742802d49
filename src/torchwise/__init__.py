"""torch.optim's exact semantics as pure JAX gradient transforms."""

from torchwise import checkpoint, optim
from torchwise.optimizers.adagrad import adagrad
from torchwise.optimizers.sgd import sgd
from torchwise.transforms.adagrad_scaling import scale_by_adagrad
from torchwise.transforms.chain import chain
from torchwise.transforms.decay import add_decayed_weights
from torchwise.transforms.learning_rate import scale_by_learning_rate
from torchwise.transforms.maximization import maximize
from torchwise.transforms.momentum import trace
from torchwise.transforms.transform import Scaling, Stateless, Transform

__all__ = [
    "Scaling",
    "Stateless",
    "Transform",
    "adagrad",
    "add_decayed_weights",
    "chain",
    "checkpoint",
    "maximize",
    "optim",
    "scale_by_adagrad",
    "scale_by_learning_rate",
    "sgd",
    "trace",
]
