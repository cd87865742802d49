"""What a run of `step.py` measures if nothing else is asked for: within 25 minutes on two cores."""

from collections.abc import Sequence
from typing import NamedTuple

import models
from optimizers import CASES, Case
from shapes import SHAPES, Shape

SGD_FAMILY = (
    *("sgd", "sgd momentum", "sgd momentum decay"),
    *("sgd nesterov decay", "sgd dampening decay"),
)
_ELEMENTWISE = (
    *(*SGD_FAMILY, "adagrad", "adagrad decay", "rmsprop"),
    *("adam", "adamw", "adamw amsgrad", "adafactor"),
)
TRAINING = {"train MLP": models.mlp, "train transformer": models.transformer}
QUICK_SHAPES: dict[str, list[Shape]] = {
    "one array of 1000": [(1000,)],
    "4 of 8 x 8": [(8, 8)] * 4,
}


class Plan(NamedTuple):
    """Which optimizers a workload is measured with, and in how many rounds."""

    optimizers: Sequence[str]
    rounds: int


# Muon takes seconds for all matrices of GPT-2; many arrays take seconds to compile.
PLANS = {
    "one array of 25M": Plan(_ELEMENTWISE, 16),
    "ResNet-50": Plan(_ELEMENTWISE, 16),
    "GPT-2 small": Plan(_ELEMENTWISE, 7),
    "GPT-2 block": Plan(["muon"], 8),
    "400 of 16 x 16": Plan([*_ELEMENTWISE, "muon"], 30),
    "2000 of 16 x 16": Plan(["sgd momentum", "adagrad", "adamw"], 20),
    "train MLP": Plan(
        ["sgd momentum", "sgd nesterov decay", "adagrad", "rmsprop", "adamw"], 30
    ),
    "train transformer": Plan(["sgd momentum", "adagrad", "adamw"], 10),
}
_QUICK = Plan(SGD_FAMILY, 3)
NAMES = [case.name for case in CASES]
WORKLOADS = [*SHAPES, *TRAINING]


def chosen(
    workloads: Sequence[str] | None, optimizers: Sequence[str] | None, quick: bool
) -> list[tuple[str, Case, int]]:
    """Return workload, case and rounds of each row.

    Args:
        workloads: their names; None means all.
        optimizers: their names, for all workloads; None means those that are planned for each.
        quick: whether figures have no meaning.
    """
    names = workloads or [*(QUICK_SHAPES if quick else SHAPES), *TRAINING]
    plans = {name: _QUICK if quick else PLANS.get(name, _QUICK) for name in names}
    return [
        (name, case, plan.rounds)
        for name, plan in plans.items()
        for case in CASES
        if case.name in (optimizers or plan.optimizers)
    ]
