"""torch.optim's exact semantics as pure JAX gradient transforms."""

from torchwise import checkpoint, layouts, optim
from torchwise.gradient_accumulation import accumulate_gradients
from torchwise.optimizers.adagrad import adagrad
from torchwise.optimizers.dragon_conversion import (
    dragon_velocities_from_torch,
    torch_buffers_from_dragon,
)
from torchwise.optimizers.dragon_sgd import dragon_sgd
from torchwise.optimizers.sgd import sgd
from torchwise.state_dict.layout import Layout
from torchwise.state_dict.models import params_from_state_dict, params_to_state_dict
from torchwise.state_dict.optimizers import from_state_dict, to_state_dict
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
    "Layout",
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
    "from_state_dict",
    "layouts",
    "maximize",
    "optim",
    "params_from_state_dict",
    "params_to_state_dict",
    "scale",
    "scale_by_adagrad",
    "scale_by_learning_rate",
    "sgd",
    "to_state_dict",
    "torch_buffers_from_dragon",
    "trace",
    "trace_with_lr",
]
