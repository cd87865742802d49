"""The one table of cases: optimizers, hyperparameters, and how close to torch each must be."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

import torchwise


class Optimizer(NamedTuple):
    """Both sides of one optimizer, and how close its numerics allow them to be."""

    ours: Callable[..., Any]
    theirs: type[torch.optim.Optimizer]
    state_keys: tuple[str, ...]
    to_the_bit: bool  # in float32 and float64


class Case(NamedTuple):
    """One row: an optimizer with hyperparameters, under the names that both sides use."""

    name: str
    optimizer: Optimizer
    hyperparameters: dict[str, Any]


SGD = Optimizer(torchwise.sgd, torch.optim.SGD, ("momentum_buffer",), to_the_bit=True)
# torch's square root is MKL's: depending on the processor, 0.6 to 16 % of its float32 results are
# 1 ulp off the correct rounding that XLA gives.
ADAGRAD = Optimizer(torchwise.adagrad, torch.optim.Adagrad, ("sum",), to_the_bit=False)


def grid(name: str, optimizer: Optimizer, **values: tuple[Any, ...]) -> list[Case]:
    """Every combination of the values that torch accepts."""
    cases = []
    for combination in itertools.product(*values.values()):
        chosen = dict(zip(values, combination))
        if chosen.get("nesterov") and (not chosen["momentum"] or chosen["dampening"]):
            continue
        label = " ".join(f"{key}={value}" for key, value in chosen.items() if value and key != "lr")
        cases.append(Case(f"{name} {label}".strip(), optimizer, chosen))
    return cases


CASES = [
    *grid(
        "sgd",
        SGD,
        lr=(0.1,),
        momentum=(0, 0.9),
        dampening=(0, 0.3),
        weight_decay=(0, 0.013),
        nesterov=(False, True),
        maximize=(False, True),
    ),
    *grid(
        "adagrad",
        ADAGRAD,
        lr=(0.01,),
        lr_decay=(0, 0.01),
        weight_decay=(0, 0.013),
        initial_accumulator_value=(0, 0.2),
        eps=(1e-10, 1e-3),
        maximize=(False, True),
    ),
]

# Whole vectors, vectors with tails of several lengths, matrices, a scalar, an empty array.
SHAPES = [(1003,), (64,), (33,), (7, 9), (64, 3), (3, 1, 5), (1,), (), (0,)]
