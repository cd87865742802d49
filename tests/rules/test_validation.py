"""Bad hyperparameters raise torch's exception with torch's text; torch itself says which."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import torchwise
from cases import OPTIMIZERS, SPARSE, WITH_SUMS
from distance import same_bits
from functional_run import FunctionalRun
from rounds import FIRST
from torchwise import optim
from torchwise.rules import RULES

ALL = OPTIMIZERS | WITH_SUMS | SPARSE
ROWS = [pytest.param(row, id=name) for name, row in ALL.items()]


def choices(column):
    """Each row with each of the choices in one of its columns."""
    return [
        pytest.param(row, chosen, id=f"{name} {chosen}")
        for name, row in ALL.items()
        for chosen in getattr(row, column)
    ]


def functional(row, **hyperparameters):
    row.ours(**hyperparameters)


def stateful(row, **hyperparameters):
    getattr(optim, row.stateful)([jnp.zeros(row.shape)], **hyperparameters)


WAYS = pytest.mark.parametrize("make", [functional, stateful])


def outcome(call, *args, **kwargs):
    """The type and the text of the exception that a call raises, or None."""
    try:
        call(*args, **kwargs)
    except Exception as error:
        return type(error), str(error)
    return None


def as_torch(row, **hyperparameters):
    return outcome(row.theirs, [torch.zeros(row.shape)], **hyperparameters)


def as_arrays(value):
    """Every float as an array of its own; integers stay, which torch tells from floats."""
    if isinstance(value, tuple):
        return tuple(map(as_arrays, value))
    return jnp.asarray(value) if isinstance(value, float) else value


def test_every_rule_has_a_row():
    assert sorted(rule.name for rule in RULES) == sorted(row.stateful for row in ALL.values())


@WAYS
@pytest.mark.parametrize(("row", "bad"), choices("bad"))
def test_refused_as_torch_does(row, bad, make):
    expected = as_torch(row, **bad)
    assert expected is not None
    assert outcome(make, row, **bad) == expected


@WAYS
@pytest.mark.parametrize(("row", "odd"), choices("odd"))
def test_taken_as_torch_does(row, odd, make):
    assert as_torch(row, **odd) is None
    assert outcome(make, row, **odd) is None


@WAYS
@pytest.mark.parametrize(("row", "bad"), choices("bad"))
def test_arrays_are_checked_too(row, bad, make):
    with jax.enable_x64(True):
        arrays = {key: as_arrays(value) for key, value in bad.items()}
        assert outcome(make, row, **arrays) == as_torch(row, **bad)


@WAYS
@pytest.mark.parametrize("row", ROWS)
def test_a_learning_rate_of_two_elements(row, make):
    expected = as_torch(row, lr=torch.ones(2))
    assert expected == (ValueError, "Tensor lr must be 1-element")
    assert outcome(make, row, lr=jnp.ones(2)) == expected


@pytest.mark.parametrize("case", FIRST, ids=[case.name for case in FIRST])
def test_a_learning_rate_of_one_element_is_a_number(case):
    param = np.ones(3, np.float32)
    runs = [
        FunctionalRun(case.optimizer.ours(**{**case.hyperparameters, "lr": lr}), [param])
        for lr in (0.5, np.full((1, 1), 0.5, np.float32))
    ]
    for run in runs:
        run.step([param])
    number, array = ([*run.params, *jax.tree.leaves(run.state)] for run in runs)
    assert all(map(same_bits, number, array))
    assert not same_bits(number[0], param)


def test_chain_refuses_other_transformations():
    with pytest.raises(TypeError, match=r"argument 1 .* GradientTransformation.*optax\.chain"):
        torchwise.chain(torchwise.trace(0.9), optax.clip(1.0))
