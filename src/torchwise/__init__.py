"""torch.optim's exact semantics as pure JAX gradient transforms."""

from torchwise import checkpoint, optim
from torchwise.gradient_accumulation import accumulate_gradients
from torchwise.optimizers.adagrad import adagrad
from torchwise.optimizers.dragon_conversion import (
    dragon_velocities_from_torch,
    torch_buffers_from_dragon,
)
from torchwise.optimizers.dragon_sgd import dragon_sgd
from torchwise.optimizers.sgd import sgd
from torchwise.transforms.adagrad_scaling import scale_by_adagrad
from torchwise.transforms.chain import chain
from torchwise.transforms.clipping import clip_by_norm
from torchwise.transforms.decay import add_decayed_weights
from torchwise.transforms.learning_rate import scale_by_learning_rate
from torchwise.transforms.maximization import maximize
from torchwise.transforms.momentum import trace
from torchwise.transforms.momentum_with_lr import trace_with_lr
from torchwise.transforms.scale import scale
from torchwise.transforms.transform import Scaling, Stateless, Transform

__all__ = [
    "Scaling",
    "Stateless",
    "Transform",
    "accumulate_gradients",
    "adagrad",
    "add_decayed_weights",
    "chain",
    "checkpoint",
    "clip_by_norm",
    "dragon_sgd",
    "dragon_velocities_from_torch",
    "maximize",
    "optim",
    "scale",
    "scale_by_adagrad",
    "scale_by_learning_rate",
    "sgd",
    "torch_buffers_from_dragon",
    "trace",
    "trace_with_lr",
]
