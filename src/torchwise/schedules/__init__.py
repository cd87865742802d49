"""torch's learning rate schedulers as pure functions of the number of steps."""

from torchwise.schedules.containers import chained, every, sequential
from torchwise.schedules.cosines import cosine_annealing, cosine_annealing_warm_restarts
from torchwise.schedules.cycles import cyclic
from torchwise.schedules.factors import constant, exponential, linear, polynomial
from torchwise.schedules.functions import lambda_, multiplicative
from torchwise.schedules.one_cycles import one_cycle, one_cycle_momentum
from torchwise.schedules.plateau import reduce_on_plateau
from torchwise.schedules.schedule import Schedule
from torchwise.schedules.steps import multi_step, step
from torchwise.schedules.swa import swa

__all__ = [
    "Schedule",
    "chained",
    "constant",
    "cosine_annealing",
    "cosine_annealing_warm_restarts",
    "cyclic",
    "every",
    "exponential",
    "lambda_",
    "linear",
    "multi_step",
    "multiplicative",
    "one_cycle",
    "one_cycle_momentum",
    "polynomial",
    "reduce_on_plateau",
    "sequential",
    "step",
    "swa",
]
