"""torch's learning rate schedulers, for the optimizers of `torchwise.optim`."""

from torchwise.optim.lr_scheduler.closed_forms import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from torchwise.optim.lr_scheduler.containers import ChainedScheduler, SequentialLR
from torchwise.optim.lr_scheduler.cycles import CyclicLR, OneCycleLR
from torchwise.optim.lr_scheduler.own_functions import LambdaLR, MultiplicativeLR
from torchwise.optim.lr_scheduler.plateau import ReduceLROnPlateau
from torchwise.optim.lr_scheduler.scheduler import LRScheduler
from torchwise.optim.lr_scheduler.warm_restarts import CosineAnnealingWarmRestarts

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]
