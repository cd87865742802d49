"""What a run of `step.py` measures if nothing else is asked for: within 25 minutes on two cores."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import chains
import models
import peers
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
    """How a workload is measured.

    Attributes:
        optimizers: their names.
        rounds: of interleaved samples.
        peers: the names of those that take part; None means all.
    """

    optimizers: Sequence[str]
    rounds: int
    peers: Collection[str] | None = None


_FEWER = {chains.FUNCTIONAL, peers.STATEFUL, chains.OPTAX, *peers.TORCH}
# Muon takes ten seconds for all matrices of GPT-2, and minutes to compile with 400 arrays. With
# 2000 arrays, many optimizers take half a minute to compile, for each peer.
PLANS = {
    "one array of 25M": Plan(_ELEMENTWISE, 12),
    "ResNet-50": Plan(_ELEMENTWISE, 12),
    "GPT-2 small": Plan(_ELEMENTWISE, 6),
    "GPT-2 block": Plan(["muon"], 5),
    "400 of 16 x 16": Plan(_ELEMENTWISE, 20),
    "2000 of 16 x 16": Plan(["sgd momentum", "adagrad", "adamw"], 20, _FEWER),
    "train MLP": Plan(["sgd momentum", "sgd nesterov decay", "adagrad", "rmsprop", "adamw"], 30),
    "train transformer": Plan(["sgd momentum", "adagrad", "adamw"], 10),
}
_QUICK = Plan(SGD_FAMILY, 3)
NAMES = [case.name for case in CASES]
WORKLOADS = [*SHAPES, *TRAINING]


def chosen(
    workloads: Sequence[str] | None, optimizers: Sequence[str] | None, quick: bool
) -> list[tuple[str, Case, Plan]]:
    """Return workload, case and plan of each row.

    Args:
        workloads: their names; None means all.
        optimizers: their names, for all workloads; None means those that are planned for each.
        quick: whether figures have no meaning.
    """
    names = workloads or [*(QUICK_SHAPES if quick else SHAPES), *TRAINING]
    plans = {name: _QUICK if quick else PLANS.get(name, _QUICK) for name in names}
    return [
        (name, case, plan)
        for name, plan in plans.items()
        for case in CASES
        if case.name in (optimizers or plan.optimizers)
    ]
