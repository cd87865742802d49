"""The one table: a row per optimizer, with all that the tests of its properties have to know."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st

import torchwise

Hyperparameters = Mapping[str, Any]


Part = Callable[[Hyperparameters, Any, Any], Any]  # of a new state, given the old one


class Optimizer(NamedTuple):
    """Both sides of one optimizer, what to try on them, and how close numerics allow them to be.

    Without roots, an optimizer is equal to torch's to the bit. With roots it is where torch's are
    correctly rounded: torch's square root is MKL's, of whose float32 results 0.6 to 16 % are 1 ulp
    off, depending on the processor.
    """

    ours: Callable[..., Any]
    stateful: str  # the class in torchwise.optim
    theirs: type[torch.optim.Optimizer]
    state_keys: tuple[str, ...]  # torch's, without "step"
    counts: bool  # whether torch keeps a "step" for each parameter
    grid: Mapping[str, tuple[Any, ...]]
    full: tuple[dict[str, Any], ...]  # choices with as many terms in one program as there can be
    random: st.SearchStrategy[dict[str, Any]]
    bad: tuple[dict[str, Any], ...]  # what torch refuses
    odd: tuple[dict[str, Any], ...]  # what torch takes, although it looks wrong
    roots: bool = False
    # With roots: by how many ulp of itself a quotient moves if its roots are 1 ulp off each; the
    # states that quotients enter, each with the part of it that they are; and by how many ulp one
    # such root may move a parameter in the end, None where it goes on moving it.
    root_ulps: float = 2
    rooted: Mapping[str, Part] = {}
    # Of a step that is the sum of two quotients: how large one of them may be.
    largest_quotient: Callable[[Hyperparameters], float] | None = None
    drift: int | None = None
    # A step's distance, in ulp of the larger part, from torch's own complex arithmetic. Where only
    # the decay is a complex sum, the last line rounds to the next number in each part.
    complex_ulps: float = 1.5
    # Hyperparameters that torch takes from the constructor, also for groups with values of their
    # own, which are honoured here: docs/differences.md.
    of_constructor: tuple[str, ...] = ()
    shape: tuple[int, ...] = (1,)  # of a parameter that it takes
    temporaries: float = 0  # of a step on CPU, in sizes of all parameters


class Case(NamedTuple):
    """An optimizer with hyperparameters, under the names that both sides use."""

    name: str
    optimizer: Optimizer
    hyperparameters: dict[str, Any]

    @property
    def transform(self) -> Any:
        """Our side."""
        return self.optimizer.ours(**self.hyperparameters)


def up_to(largest: float) -> st.SearchStrategy[float]:
    """Zero, or a number that is not tiny.

    XLA flushes subnormal numbers to zero on CPU and torch does not: products are kept away from
    them.
    """
    return st.one_of(st.just(0.0), st.floats(1e-6, largest))


NUMBERS = up_to(2)
SIGNED = st.one_of(NUMBERS, NUMBERS.map(lambda number: -number))


def _legal(chosen: dict[str, Any]) -> dict[str, Any]:
    """Nesterov needs a momentum and no dampening."""
    nesterov = chosen["nesterov"] and chosen["momentum"] > 0
    return {**chosen, "nesterov": nesterov, "dampening": 0.0 if nesterov else chosen["dampening"]}


SGD = Optimizer(
    ours=torchwise.sgd,
    stateful="SGD",
    theirs=torch.optim.SGD,
    state_keys=("momentum_buffer",),
    counts=False,
    grid={
        "lr": (0.1,),
        "momentum": (0, 0.9),
        "dampening": (0, 0.3),
        "weight_decay": (0, 0.013),
        "nesterov": (False, True),
        "maximize": (False, True),
    },
    full=(
        {"momentum": 0.9, "weight_decay": 0.013, "nesterov": True},
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.013, "maximize": True},
    ),
    random=st.fixed_dictionaries(
        {
            "lr": NUMBERS,
            "momentum": st.sampled_from([0.0, 0.1, 0.9, 1.3]),
            "dampening": SIGNED,
            "weight_decay": NUMBERS,
            "nesterov": st.booleans(),
            "maximize": st.booleans(),
        }
    ).map(_legal),
    bad=(
        {"lr": -1.0},
        {"momentum": -0.1},
        {"weight_decay": -1e-9},
        {"nesterov": True},
        {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
        {"lr": None},
        {"lr": "a"},
        {"lr": -1.0, "momentum": -1.0},
        {"weight_decay": -1.0, "momentum": -1.0},
    ),
    odd=({"lr": float("nan")}, {"momentum": 1.5}, {"dampening": -2.0}, {"lr": 0.0}),
    # Of each sum with a factor torch rounds the product, too. In a part, the last sum differs by
    # two ulp and what the product adds, at most one where the step is as large as the parameter;
    # the sums before it, in the step, by as much again and once more: 7 for a part, 10 for both.
    # The largest of two million steps was 4.1.
    complex_ulps=10,
)

ADAGRAD = Optimizer(
    ours=torchwise.adagrad,
    stateful="Adagrad",
    theirs=torch.optim.Adagrad,
    state_keys=("sum",),
    counts=True,
    grid={
        "lr": (0.01,),
        "lr_decay": (0, 0.01),
        "weight_decay": (0, 0.013),
        "initial_accumulator_value": (0, 0.2),
        "eps": (1e-10, 1e-3),
        "maximize": (False, True),
    },
    full=({"lr_decay": 0.01, "weight_decay": 0.013},),
    random=st.fixed_dictionaries(
        {
            "lr": NUMBERS,
            "lr_decay": NUMBERS,
            "weight_decay": NUMBERS,
            "initial_accumulator_value": NUMBERS,
            "eps": st.floats(1e-12, 1e-2),
            "maximize": st.booleans(),
        }
    ),
    bad=(
        {"lr": -1.0},
        {"lr": float("nan")},
        {"lr_decay": -0.1},
        {"weight_decay": -0.1},
        {"initial_accumulator_value": -1.0},
        {"eps": -1e-10},
        {"eps": float("nan")},
        {"lr": "a"},
        {"eps": None},
        {"eps": -1.0, "lr_decay": -1.0},
    ),
    odd=({"lr": 0.0}, {"eps": 0.0}, {"lr_decay": 2.0}),
    roots=True,
    # A root moves its step by up to 2 ulp, of a step that may be twice as large as the parameter.
    drift=4,
    of_constructor=("initial_accumulator_value",),
)


RMSPROP = Optimizer(
    ours=torchwise.rmsprop,
    stateful="RMSprop",
    theirs=torch.optim.RMSprop,
    state_keys=("square_avg", "momentum_buffer", "grad_avg"),
    counts=True,
    grid={
        "lr": (0.01,),
        "alpha": (0.99, 0.3),  # torch's lerp has one branch for weights below 0.5, one for others
        "eps": (1e-8, 1e-3),
        "weight_decay": (0, 0.013),
        "momentum": (0, 0.9),
        "centered": (False, True),
        "maximize": (False, True),
    },
    full=(
        {"weight_decay": 0.013, "momentum": 0.9, "centered": True},
        {"weight_decay": 0.013},
    ),
    random=st.fixed_dictionaries(
        {
            "lr": NUMBERS,
            "alpha": st.floats(0.1, 1),  # not zero, see BETAS
            "eps": st.floats(1e-12, 1e-2),
            "weight_decay": NUMBERS,
            "momentum": st.sampled_from([0.0, 0.1, 0.9, 1.3]),
            "centered": st.booleans(),
            "maximize": st.booleans(),
        }
    ),
    bad=(
        {"lr": -1.0},
        {"lr": float("nan")},
        {"eps": -1e-8},
        {"eps": float("nan")},
        {"momentum": -0.1},
        {"weight_decay": -0.1},
        {"alpha": -0.5},
        {"alpha": float("nan")},
        {"lr": "a"},
        {"alpha": None},
        {"alpha": -1.0, "weight_decay": -1.0},
        {"weight_decay": -1.0, "momentum": -1.0},
        {"momentum": -1.0, "eps": -1.0},
    ),
    odd=({"lr": 0.0}, {"alpha": 1.5}, {"momentum": 2.0}, {"eps": 0.0}),
    roots=True,
    rooted={"momentum_buffer": lambda given, old, new: new - given["momentum"] * old},
    drift=None,  # the momentum buffer remembers it
)

# Not zero: torch's lerp by 1.0 gives zeros of other signs in vectors than in the rest of an array.
# Not tiny: NAdam multiplies them up, and the product would become subnormal.
BETAS = st.tuples(st.floats(0.1, 0.999), st.floats(0.1, 0.9999))
BAD_RATE = ({"lr": -1.0}, {"lr": float("nan")}, {"lr": "a"})
BAD_EPS = ({"eps": -1e-8}, {"eps": float("nan")}, {"eps": None})
BAD_BETAS = (
    {"betas": (-0.1, 0.9)},
    {"betas": (1.0, 0.9)},
    {"betas": (0.9, 1.0)},
    {"betas": (0.9, float("nan"))},
    {"betas": (1.0, 0.9), "weight_decay": -1.0},
    {"betas": (1.0, 0.9), "eps": -1.0},
)
BAD_DECAY = ({"weight_decay": -0.1}, {"weight_decay": -1.0, "lr": -1.0})

ADAM = Optimizer(
    ours=torchwise.adam,
    stateful="Adam",
    theirs=torch.optim.Adam,
    state_keys=("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    counts=True,
    grid={
        "lr": (0.01,),
        "betas": ((0.9, 0.999), (0.3, 0.5)),  # lerp has two branches
        "eps": (1e-8, 1e-3),
        "weight_decay": (0, 0.013),
        "amsgrad": (False, True),
        "decoupled_weight_decay": (False, True),
        "maximize": (False, True),
    },
    full=(
        {"weight_decay": 0.013, "amsgrad": True},
        {"weight_decay": 0.013, "decoupled_weight_decay": True},
    ),
    random=st.fixed_dictionaries(
        {
            "lr": NUMBERS,
            "betas": BETAS,
            "eps": st.floats(1e-12, 1e-2),
            "weight_decay": NUMBERS,
            "amsgrad": st.booleans(),
            "decoupled_weight_decay": st.booleans(),
            "maximize": st.booleans(),
        }
    ),
    bad=(*BAD_RATE, *BAD_EPS, *BAD_BETAS, *BAD_DECAY, {"betas": (0, 0.9)}, {"betas": (0.9, 0)}),
    odd=({"lr": 0.0}, {"eps": 0.0}, {"betas": (0.0, 0.0)}),
    roots=True,
    drift=4,
)

ADAMW = ADAM._replace(
    ours=torchwise.adamw,
    stateful="AdamW",
    theirs=torch.optim.AdamW,
    grid={
        "lr": (0.01,),
        "betas": ((0.9, 0.999), (0.3, 0.5)),
        "eps": (1e-8, 1e-3),
        "weight_decay": (0.013, 0),
        "amsgrad": (False, True),
        "maximize": (False, True),
    },
    full=({}, {"amsgrad": True}),
    random=st.fixed_dictionaries(
        {
            "lr": NUMBERS,
            "betas": BETAS,
            "eps": st.floats(1e-12, 1e-2),
            "weight_decay": NUMBERS,
            "amsgrad": st.booleans(),
            "maximize": st.booleans(),
        }
    ),
)

ADAMAX = Optimizer(
    ours=torchwise.adamax,
    stateful="Adamax",
    theirs=torch.optim.Adamax,
    state_keys=("exp_avg", "exp_inf"),
    counts=True,
    grid={
        "lr": (0.01,),
        "betas": ((0.9, 0.999), (0.3, 0.5)),
        "eps": (1e-8, 1e-3),
        "weight_decay": (0, 0.013),
        "maximize": (False, True),
    },
    full=({"weight_decay": 0.013},),
    random=st.fixed_dictionaries(
        {
            "lr": NUMBERS,
            "betas": BETAS,
            "eps": st.floats(1e-12, 1e-2),
            "weight_decay": NUMBERS,
            "maximize": st.booleans(),
        }
    ),
    bad=(*BAD_RATE, *BAD_EPS, *BAD_BETAS, *BAD_DECAY),
    odd=({"lr": 0.0}, {"eps": 0.0}, {"betas": (0, 0)}),
)

ADADELTA = Optimizer(
    ours=torchwise.adadelta,
    stateful="Adadelta",
    theirs=torch.optim.Adadelta,
    state_keys=("square_avg", "acc_delta"),
    counts=True,
    grid={
        "lr": (1.0, 0.1),
        "rho": (0.9, 0.3),
        "eps": (1e-6, 1e-3),
        "weight_decay": (0, 0.013),
        "maximize": (False, True),
    },
    full=({"weight_decay": 0.013},),
    random=st.fixed_dictionaries(
        {
            "lr": NUMBERS,
            "rho": up_to(1),
            "eps": st.floats(1e-12, 1e-2),
            "weight_decay": NUMBERS,
            "maximize": st.booleans(),
        }
    ),
    bad=(*BAD_RATE, *BAD_EPS, *BAD_DECAY, {"rho": -0.1}, {"rho": 1.1}, {"rho": float("nan")}),
    odd=({"lr": 0.0}, {"rho": 1.0}, {"eps": 1.0}),
    roots=True,
    root_ulps=6,  # two roots and a square
    temporaries=1,  # what the parameter and the second average are both made of
    rooted={"acc_delta": lambda given, old, new: new - given["rho"] * old},
)

NADAM = Optimizer(
    ours=torchwise.nadam,
    stateful="NAdam",
    theirs=torch.optim.NAdam,
    state_keys=("mu_product", "exp_avg", "exp_avg_sq"),
    counts=True,
    grid={
        "lr": (0.01,),
        "betas": ((0.9, 0.999), (0.3, 0.5)),
        "eps": (1e-8, 1e-3),
        "weight_decay": (0, 0.013),
        "momentum_decay": (4e-3, 0.3),
        "decoupled_weight_decay": (False, True),
        "maximize": (False, True),
    },
    full=(
        {"weight_decay": 0.013},
        {"weight_decay": 0.013, "decoupled_weight_decay": True},
    ),
    random=st.fixed_dictionaries(
        {
            "lr": NUMBERS,
            "betas": BETAS,
            "eps": st.floats(1e-12, 1e-2),
            "weight_decay": NUMBERS,
            "momentum_decay": NUMBERS,
            "decoupled_weight_decay": st.booleans(),
            "maximize": st.booleans(),
        }
    ),
    bad=(*BAD_RATE, *BAD_EPS, *BAD_BETAS, *BAD_DECAY, {"momentum_decay": -0.1}),
    odd=({"lr": 0.0}, {"eps": 0.0}, {"momentum_decay": 0.0}),
    roots=True,
    # A squared gradient has the weight 1 - beta2 in the average that it is divided by the root of.
    largest_quotient=lambda given: given["lr"] / (1 - given["betas"][1]) ** 0.5,
)

RADAM = Optimizer(
    ours=torchwise.radam,
    stateful="RAdam",
    theirs=torch.optim.RAdam,
    state_keys=("exp_avg", "exp_avg_sq"),
    counts=True,
    grid={
        "lr": (0.01,),
        "betas": ((0.9, 0.999), (0.3, 0.5), (0.9, 0.9)),  # rectified late, never, soon
        "eps": (1e-8, 1e-3),
        "weight_decay": (0, 0.013),
        "decoupled_weight_decay": (False, True),
        "maximize": (False, True),
    },
    full=(
        {"weight_decay": 0.013},
        {"weight_decay": 0.013, "decoupled_weight_decay": True},
    ),
    random=st.fixed_dictionaries(
        {
            "lr": NUMBERS,
            "betas": BETAS,
            "eps": st.floats(1e-12, 1e-2),
            "weight_decay": NUMBERS,
            "decoupled_weight_decay": st.booleans(),
            "maximize": st.booleans(),
        }
    ),
    bad=(*BAD_RATE, *BAD_EPS, *BAD_BETAS, *BAD_DECAY),
    odd=({"lr": 0.0}, {"eps": 0.0}, {"betas": (0, 0)}),
    roots=True,
    drift=4,
)

ASGD = Optimizer(
    ours=torchwise.asgd,
    stateful="ASGD",
    theirs=torch.optim.ASGD,
    state_keys=("eta", "mu", "ax"),
    counts=True,
    grid={
        "lr": (0.01,),
        "lambd": (1e-4, 0.3),
        "alpha": (0.75, 0.5),
        "t0": (1e6, 5),
        "weight_decay": (0, 0.013),
        "maximize": (False, True),
    },
    full=({"weight_decay": 0.013, "t0": 2},),
    random=st.fixed_dictionaries(
        {
            "lr": NUMBERS,
            "lambd": NUMBERS,
            "alpha": st.floats(0, 2),
            "t0": st.sampled_from([0, 1, 5, 1e6]),
            "weight_decay": NUMBERS,
            "maximize": st.booleans(),
        }
    ),
    bad=(*BAD_RATE, *BAD_DECAY),
    odd=({"lr": 0.0}, {"lambd": -1.0}, {"alpha": -1.0}, {"t0": -5}),
)

RPROP = Optimizer(
    ours=torchwise.rprop,
    stateful="Rprop",
    theirs=torch.optim.Rprop,
    state_keys=("prev", "step_size"),
    counts=True,
    grid={
        "lr": (0.01, 1.0),
        "etas": ((0.5, 1.2), (0.3, 1.7)),
        "step_sizes": ((1e-6, 50), (0.005, 0.02)),
        "maximize": (False, True),
    },
    full=({},),
    random=st.fixed_dictionaries(
        {
            "lr": NUMBERS,
            "etas": st.tuples(st.floats(0.01, 0.99), st.floats(1.01, 3)),
            "step_sizes": st.tuples(st.floats(1e-6, 1e-2), st.floats(1e-2, 50)),
            "maximize": st.booleans(),
        }
    ),
    bad=(*BAD_RATE, {"etas": (0.0, 1.2)}, {"etas": (1.0, 1.2)}, {"etas": (0.5, 1.0)}),
    odd=({"lr": 0.0}, {"step_sizes": (50, 1e-6)}, {"step_sizes": (-1, 1)}),
)

OPTIMIZERS = {
    "sgd": SGD,
    "adagrad": ADAGRAD,
    "rmsprop": RMSPROP,
    "adam": ADAM,
    "adamw": ADAMW,
    "adamax": ADAMAX,
    "adadelta": ADADELTA,
    "nadam": NADAM,
    "radam": RADAM,
    "asgd": ASGD,
    "rprop": RPROP,
}

# The sums of these are taken in another order than torch's: no bits, and properties of their own.
ADAFACTOR = Optimizer(
    ours=torchwise.adafactor,
    stateful="Adafactor",
    theirs=torch.optim.Adafactor,
    state_keys=("row_var", "col_var", "variance"),
    counts=True,
    grid={},
    full=(),
    random=st.just({}),
    bad=(
        {"lr": -1.0},
        {"lr": float("nan")},
        {"lr": "a"},
        {"beta2_decay": 0.1},
        {"eps": (-1.0, 1e-3)},
        {"eps": (None, -1.0)},
        {"d": 0.5},
        {"weight_decay": -0.1},
        {"weight_decay": -0.1, "d": 0.5},
        {"d": 0.5, "eps": (None, -1.0)},
    ),
    odd=({"lr": 0.0}, {"beta2_decay": 0.0}, {"eps": (0.0, 0.0)}),
)

MUON = Optimizer(
    ours=torchwise.muon,
    stateful="Muon",
    theirs=torch.optim.Muon,
    state_keys=("momentum_buffer",),
    counts=False,
    grid={},
    full=(),
    random=st.just({}),
    bad=(
        {"lr": -1.0},
        {"lr": float("nan")},
        {"lr": "a"},
        {"momentum": -0.1},
        {"weight_decay": -0.1},
        {"adjust_lr_fn": "other"},
        {"weight_decay": -0.1, "momentum": -0.1},
    ),
    odd=({"lr": 0.0}, {"momentum": 1.5}, {"adjust_lr_fn": "match_rms_adamw"}),
    shape=(2, 3),
)

WITH_SUMS = {"adafactor": ADAFACTOR, "muon": MUON}

# This takes sparse gradients alone.
SPARSE_ADAM = Optimizer(
    ours=torchwise.sparse_adam,
    stateful="SparseAdam",
    theirs=torch.optim.SparseAdam,
    state_keys=("exp_avg", "exp_avg_sq"),
    counts=True,
    grid={},
    full=(),
    random=st.just({}),
    bad=(
        *BAD_RATE,
        *BAD_EPS,
        {"lr": 0.0},
        {"eps": 0.0},
        {"betas": (-0.1, 0.9)},
        {"betas": (1.0, 0.0)},
        {"betas": (0.9, float("nan"))},
        {"betas": (1.0, 0.9), "eps": -1.0},
        {"eps": 0.0, "lr": 0.0},
    ),
    odd=({"betas": (0, 0)}, {"betas": [0.5, 0.5]}, {"eps": 2.0}),
    roots=True,
)

SPARSE = {"sparse_adam": SPARSE_ADAM}


def _case(name: str, optimizer: Optimizer, chosen: dict[str, Any]) -> Case:
    label = " ".join(f"{key}={value}" for key, value in chosen.items() if value)
    return Case(f"{name} {label}", optimizer, chosen)


def full(name: str, optimizer: Optimizer) -> list[Case]:
    """The choices with many terms; the other values are the first of the grid."""
    first = {key: values[0] for key, values in optimizer.grid.items()}
    return [_case(name, optimizer, {**first, **chosen}) for chosen in optimizer.full]


def product(name: str, optimizer: Optimizer) -> list[Case]:
    """Every combination of the grid that torch accepts."""
    combinations = itertools.product(*optimizer.grid.values())
    every = (dict(zip(optimizer.grid, combination)) for combination in combinations)
    return [_case(name, optimizer, chosen) for chosen in every if _accepted(optimizer, chosen)]


def _accepted(optimizer: Optimizer, chosen: dict[str, Any]) -> bool:
    try:
        optimizer.theirs([torch.zeros(1)], **chosen)
    except ValueError:
        return False
    return True


def pairwise(cases: list[Case], chosen: list[Case]) -> list[Case]:
    """Add cases to the chosen ones until every pair of values that occurs in any is covered."""
    chosen, missing = (
        list(chosen),
        set().union(*map(_pairs, cases)).difference(*map(_pairs, chosen)),
    )
    while missing:
        best = max(cases, key=lambda case: len(missing & _pairs(case)))
        chosen.append(best)
        missing -= _pairs(best)
    return chosen


def _pairs(case: Case) -> set[Any]:
    return set(itertools.combinations(case.hyperparameters.items(), 2))


FULL = [case for row in OPTIMIZERS.items() for case in full(*row)]
PRODUCT = [case for row in OPTIMIZERS.items() for case in product(*row)]
CASES = [case for row in OPTIMIZERS.items() for case in pairwise(product(*row), full(*row))]

# A vector with a tail, a matrix, a scalar, an empty array. A program's compilation takes as long
# as it has arrays, and these tests are little else: so one of each, and no two are alike.
SHAPES = [(1003,), (7, 9), (), (0,)]
