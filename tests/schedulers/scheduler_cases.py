"""Every scheduler with arguments, made alike from torch's module and from ours."""

from typing import Any, NamedTuple

import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import torch

import torchwise
from torchwise import optim, schedules

THEIRS, OURS = torch.optim.lr_scheduler, torchwise.optim.lr_scheduler


def kind_of(module, name):
    """A class of torch's module or of ours; SWALR is in another one on both sides."""
    if name == "SWALR":
        module = torch.optim.swa_utils if module is THEIRS else optim.swa_utils
    return getattr(module, name)


class Factor:
    """A callable object, whose attributes torch saves."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, epoch):
        return 1.0 / (1.0 + self.rate * epoch)


def falling(epoch):
    return 0.9 if epoch % 7 == 0 else 1.0


def decaying(epoch):
    return 0.97**epoch


class Case(NamedTuple):
    """A scheduler: `make(module, optimizer)`, where the module is torch's or ours."""

    name: str
    make: Any
    pure: Any = None  # base -> schedule; None if there is none
    closed: bool = True  # whether the recursion keeps to a closed form


def simple(kind, pure, *args, **kwargs):
    shown = tuple(getattr(arg, "__name__", arg) for arg in args)  # not where a function lies
    name = f"{kind} {shown or ''}{kwargs or ''}"
    return Case(
        name,
        lambda module, optimizer: kind_of(module, kind)(optimizer, *args, **kwargs),
        lambda base: getattr(schedules, pure)(base, *args, **kwargs),
    )


def one_cycle(**kwargs):
    return Case(
        f"OneCycleLR {kwargs}",
        lambda module, optimizer: module.OneCycleLR(optimizer, 0.1, **kwargs),
        lambda base: schedules.one_cycle(
            0.1, **{k: v for k, v in kwargs.items() if "momentum" not in k}
        ),
    )


def cyclic(*sizes, **kwargs):
    return Case(
        f"CyclicLR {sizes} {kwargs}",
        lambda module, optimizer: module.CyclicLR(optimizer, 0.001, 0.1, *sizes, **kwargs),
        lambda base: schedules.cyclic(
            0.001, 0.1, *sizes, **{k: v for k, v in kwargs.items() if "momentum" not in k}
        ),
    )


CASES = [
    simple("StepLR", "step", 30, gamma=0.37),
    simple("StepLR", "step", 1, 0.97),
    simple("MultiStepLR", "multi_step", [80, 5, 80, 200], gamma=0.3),
    simple("MultiStepLR", "multi_step", [0, 40]),
    simple("ConstantLR", "constant", 0.3, 17),
    simple("ConstantLR", "constant"),
    simple("LinearLR", "linear", 0.003, 0.7, 131),
    simple("LinearLR", "linear"),
    simple("ExponentialLR", "exponential", 0.987),
    simple("PolynomialLR", "polynomial", 290, 0.9),
    simple("PolynomialLR", "polynomial"),
    simple("CosineAnnealingLR", "cosine_annealing", 100, 1e-3),
    simple("CosineAnnealingLR", "cosine_annealing", T_max=300),
    simple("CosineAnnealingLR", "cosine_annealing", 7),
    simple("CosineAnnealingWarmRestarts", "cosine_annealing_warm_restarts", 7, 2, 1e-4),
    simple("CosineAnnealingWarmRestarts", "cosine_annealing_warm_restarts", 11),
    simple("LambdaLR", "lambda_", decaying),
    simple("MultiplicativeLR", "multiplicative", lambda epoch: 0.99),
    simple("SWALR", "swa", 0.023, 47),
    simple("SWALR", "swa", 0.4, anneal_epochs=260, anneal_strategy="linear"),
    cyclic(20, 13),
    cyclic(20, mode="triangular2", base_momentum=0.7),
    cyclic(9, mode="exp_range", gamma=0.99, cycle_momentum=False),
    one_cycle(total_steps=364),
    one_cycle(total_steps=365, three_phase=True, anneal_strategy="linear", base_momentum=0.5),
    one_cycle(total_steps=364, pct_start=0.17, div_factor=7.0, cycle_momentum=False),
    Case(
        "SequentialLR(Linear, Cosine)",
        lambda module, optimizer: module.SequentialLR(
            optimizer,
            [module.LinearLR(optimizer, 0.1, 1.0, 10), module.CosineAnnealingLR(optimizer, 290)],
            [10],
        ),
        lambda base: schedules.sequential(
            [schedules.linear(base, 0.1, 1.0, 10), schedules.cosine_annealing(base, 290)], [10]
        ),
    ),
    Case(
        "SequentialLR of three",
        lambda module, optimizer: module.SequentialLR(
            optimizer,
            [
                module.ConstantLR(optimizer, 0.5, 3),
                module.ExponentialLR(optimizer, 0.9),
                module.StepLR(optimizer, 20),
            ],
            [7, 31],
        ),
        lambda base: schedules.sequential(
            [
                schedules.constant(base, 0.5, 3),
                schedules.exponential(base, 0.9),
                schedules.step(base, 20),
            ],
            [7, 31],
        ),
    ),
    Case(
        "ChainedScheduler",
        lambda module, optimizer: module.ChainedScheduler(
            [module.ConstantLR(optimizer, 0.1, 4), module.ExponentialLR(optimizer, 0.97)]
        ),
        lambda base: schedules.chained(
            [schedules.constant(base, 0.1, 4), schedules.exponential(base, 0.97)]
        ),
    ),
    Case(
        "SequentialLR in ChainedScheduler",
        lambda module, optimizer: module.ChainedScheduler(
            [
                module.SequentialLR(
                    optimizer,
                    [module.LinearLR(optimizer), module.StepLR(optimizer, 11)],
                    [5],
                ),
                module.MultiStepLR(optimizer, [9, 90]),
            ],
            optimizer,
        ),
    ),
    Case(
        "ChainedScheduler first in SequentialLR",
        lambda module, optimizer: module.SequentialLR(
            optimizer,
            [
                module.ChainedScheduler(
                    [module.ConstantLR(optimizer), module.ExponentialLR(optimizer, 0.9)]
                ),
                module.PolynomialLR(optimizer, 50),
            ],
            [8],
        ),
    ),
    Case(
        "functions for each group",
        lambda module, optimizer: module.LambdaLR(
            optimizer, [Factor(0.01 * (i + 1)) for i in range(len(optimizer.param_groups))]
        ),
    ),
    Case(
        "SWALR with a rate for each group",
        lambda module, optimizer: kind_of(module, "SWALR")(
            optimizer, [0.02 * (i + 1) for i in range(len(optimizer.param_groups))], 30, "linear"
        ),
    ),
    Case(
        "SWALR at once",
        lambda module, optimizer: kind_of(module, "SWALR")(optimizer, 1, anneal_epochs=0),
    ),
    Case(
        "SWALR in SequentialLR",
        lambda module, optimizer: module.SequentialLR(
            optimizer,
            [module.ExponentialLR(optimizer, 0.97), kind_of(module, "SWALR")(optimizer, 0.05)],
            [25],
        ),
    ),
    Case(
        "MultiplicativeLR of a function",
        lambda module, optimizer: module.MultiplicativeLR(optimizer, falling),
    ),
    Case(
        "CyclicLR with a callable object",
        lambda module, optimizer: module.CyclicLR(
            optimizer, 0.01, 0.2, 6, scale_fn=Factor(0.1), scale_mode="iterations"
        ),
    ),
    Case(
        "CyclicLR with a function",
        lambda module, optimizer: module.CyclicLR(
            optimizer, 0.01, 0.2, 6, scale_fn=lambda cycle: 1 / (5 ** (cycle * 0.0001))
        ),
    ),
]


def optimizers(name="SGD", groups=1, lr=0.1, **hyperparameters):
    """torch's optimizer and ours, each with a parameter in every group, and lrs of their own."""
    if name == "SGD":
        hyperparameters = {"momentum": 0.9, **hyperparameters}
    rows = [{"lr": lr * (index + 1)} for index in range(groups)]
    theirs = getattr(torch.optim, name)(
        [{"params": [torch.zeros(1)], **row} for row in rows], lr=lr, **hyperparameters
    )
    ours = getattr(optim, name)(
        [{"params": [jnp.zeros(1)], **row} for row in rows], lr=lr, **hyperparameters
    )
    return theirs, ours


def groups_of(optimizer):
    return [
        {key: value for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    ]


def plain(value):
    """A state dict with arrays of either library as (type, number); it keeps types and order."""
    if isinstance(value, torch.Tensor | jnp.ndarray | np.ndarray):
        return "array", str(value.dtype).removeprefix("torch."), float(value)
    if isinstance(value, dict):
        return type(value).__name__, [(key, plain(one)) for key, one in value.items()]
    if isinstance(value, list | tuple):
        return type(value).__name__, [plain(one) for one in value]
    return type(value).__name__, repr(value)


def same(theirs, ours):
    """Whether two schedulers are at the same place, and so are their optimizers."""
    assert plain(groups_of(ours.optimizer)) == plain(groups_of(theirs.optimizer))
    assert plain(ours.state_dict()) == plain(theirs.state_dict())
    assert plain(ours.get_last_lr()) == plain(theirs.get_last_lr())


def advance(scheduler, epochs=1):
    for _ in range(epochs):
        scheduler.optimizer.step()
        scheduler.step()


FACTORS = st.floats(0.01, 1.0)
LENGTHS = st.integers(1, 60)
LEAVES = st.one_of(
    st.tuples(st.just("StepLR"), LENGTHS, FACTORS),
    st.tuples(st.just("MultiStepLR"), st.lists(st.integers(0, 80), max_size=5), FACTORS),
    st.tuples(st.just("ConstantLR"), FACTORS, LENGTHS),
    st.tuples(st.just("LinearLR"), FACTORS, FACTORS, LENGTHS),
    st.tuples(st.just("ExponentialLR"), FACTORS),
    st.tuples(st.just("PolynomialLR"), LENGTHS, st.floats(0.25, 3.0)),
    st.tuples(st.just("CosineAnnealingLR"), LENGTHS, st.floats(0, 0.05)),
    st.tuples(st.just("CosineAnnealingWarmRestarts"), LENGTHS, st.integers(1, 3)),
    st.tuples(st.just("LambdaLR"), st.just(decaying)),
    st.tuples(st.just("MultiplicativeLR"), st.just(falling)),
    st.tuples(st.just("CyclicLR"), FACTORS, FACTORS, LENGTHS, st.integers(1, 60)),
    st.tuples(st.just("OneCycleLR"), FACTORS, st.integers(100, 200)),
    st.tuples(st.just("SWALR"), FACTORS, st.integers(0, 60), st.sampled_from(["cos", "linear"])),
)
MEMBERS = st.lists(LEAVES, min_size=1, max_size=4)
SEQUENCES = st.tuples(MEMBERS, st.lists(st.integers(1, 20), min_size=3, max_size=3)).map(
    lambda drawn: ("SequentialLR", drawn[0], np.cumsum(drawn[1]).tolist()[: len(drawn[0]) - 1])
)
CHAINS = st.lists(LEAVES | SEQUENCES, min_size=1, max_size=3).map(
    lambda many: ("ChainedScheduler", many)
)
CONFIGURATIONS = st.one_of(LEAVES, CHAINS, SEQUENCES)


def made(module, optimizer, configuration):
    """A scheduler of a configuration."""
    kind, *arguments = configuration
    if kind == "ChainedScheduler":
        return module.ChainedScheduler([made(module, optimizer, one) for one in arguments[0]])
    if kind == "SequentialLR":
        members = [made(module, optimizer, one) for one in arguments[0]]
        return module.SequentialLR(optimizer, members, list(arguments[1]))
    return kind_of(module, kind)(optimizer, *arguments)
