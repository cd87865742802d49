"""torch.optim's exact semantics as pure JAX gradient transforms."""

__version__ = "0.1.0"

from torchwise import averages, checkpoint, dragon, layouts, nn, optim, schedules
from torchwise.blocks.add_decayed_weights import add_decayed_weights
from torchwise.blocks.clip_each_by_norm import clip_each_by_norm
from torchwise.blocks.clip_grad_norm import clip_grad_norm
from torchwise.blocks.clip_grad_value import clip_grad_value
from torchwise.blocks.maximize import maximize
from torchwise.blocks.scale import scale
from torchwise.blocks.scale_by_adagrad import scale_by_adagrad
from torchwise.blocks.trace import trace
from torchwise.gradient_accumulation import accumulate_gradients
from torchwise.norms import get_total_norm
from torchwise.optax_states.conversion import from_optax_state, to_optax_state
from torchwise.quasi_newton.lbfgs import lbfgs
from torchwise.rule import Block, Rule
from torchwise.rules.adadelta import adadelta
from torchwise.rules.adafactor import adafactor
from torchwise.rules.adagrad import adagrad
from torchwise.rules.adam import adam
from torchwise.rules.adamax import adamax
from torchwise.rules.adamw import adamw
from torchwise.rules.asgd import asgd
from torchwise.rules.muon import muon
from torchwise.rules.nadam import nadam
from torchwise.rules.radam import radam
from torchwise.rules.rmsprop import rmsprop
from torchwise.rules.rprop import rprop
from torchwise.rules.scale_by_learning_rate import scale_by_learning_rate
from torchwise.rules.sgd import sgd
from torchwise.rules.sparse_adam import sparse_adam
from torchwise.state_dict.layout import Layout
from torchwise.state_dict.models import params_from_state_dict, params_to_state_dict
from torchwise.state_dict.optimizers import from_state_dict, to_state_dict
from torchwise.transformation import Chain, chain

__all__ = [
    "Block",
    "Chain",
    "Layout",
    "Rule",
    "accumulate_gradients",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "add_decayed_weights",
    "asgd",
    "averages",
    "chain",
    "checkpoint",
    "clip_each_by_norm",
    "clip_grad_norm",
    "clip_grad_value",
    "dragon",
    "from_optax_state",
    "from_state_dict",
    "get_total_norm",
    "layouts",
    "lbfgs",
    "maximize",
    "muon",
    "nadam",
    "nn",
    "optim",
    "params_from_state_dict",
    "params_to_state_dict",
    "radam",
    "rmsprop",
    "rprop",
    "scale",
    "scale_by_adagrad",
    "scale_by_learning_rate",
    "schedules",
    "sgd",
    "sparse_adam",
    "to_optax_state",
    "to_state_dict",
    "trace",
]
