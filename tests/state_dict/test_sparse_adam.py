"""SparseAdam with groups and missing gradients, and its state dicts here and in torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from state_dict_tools import assert_same_dict, tensors_of

import torchwise
from distance import same_numbers
from functional_run import draw
from sparse_gradients import entries, parameters_of, step_ours
from torch_oracle import coalescing_in_order, correctly_rounded_sqrt, to_numpy
from torchwise import checkpoint, optim

SHAPES = [(17, 5), (9, 3), (11, 2)]
GROUPS = [{"lr": 0.1}, {"lr": 0.01, "betas": (0.3, 0.5), "maximize": True}]


def drawn(rng):
    """One gradient is missing now and then."""
    grads = [entries(rng, shape, 1, 12, "float32") for shape in SHAPES]
    return [None if rng.random() < 0.2 else grad for grad in grads]


def grouped(parameters):
    first, *others = parameters
    return [{"params": [first], **GROUPS[0]}, {"params": others, **GROUPS[1]}]


def step_theirs(optimizer, grads):
    with correctly_rounded_sqrt(), coalescing_in_order():
        for parameter, grad in zip(parameters_of(optimizer), grads, strict=True):
            parameter.grad = None if grad is None else grad.theirs
        optimizer.step()


def arrays_of(optimizer):
    return [np.asarray(one.data) for one in parameters_of(optimizer)]


@pytest.fixture
def runs():
    params = draw(np.random.default_rng(0), SHAPES, "float32")
    tensors = tensors_of(params)
    return optim.SparseAdam(grouped(params)), torch.optim.SparseAdam(grouped(tensors)), tensors


def assert_same_params(ours, tensors):
    assert all(map(same_numbers, arrays_of(ours), map(to_numpy, tensors)))


def test_groups_and_missing_gradients(runs):
    ours, theirs, tensors = runs
    rng = np.random.default_rng(1)
    for _ in range(20):
        grads = drawn(rng)
        step_ours(ours, grads)
        step_theirs(theirs, grads)
    assert_same_params(ours, tensors)
    assert_same_dict(ours.state_dict(), theirs.state_dict())
    assert len({entry["step"] for entry in ours.state_dict()["state"].values()}) > 1


@pytest.mark.parametrize(
    "way", ["stateful", *(pytest.param(way, marks=pytest.mark.slow) for way in ("pure", "file"))]
)
def test_a_run_there_and_back(runs, way, tmp_path):
    """50 steps in torch, 50 here, 50 in torch: as 150 in torch."""
    ours, theirs, tensors = runs
    rng = np.random.default_rng(2)
    whole = tensors_of(arrays_of(ours))
    reference = torch.optim.SparseAdam(grouped(whole))
    for _ in range(50):
        grads = drawn(rng)
        step_theirs(theirs, grads)
        step_theirs(reference, grads)
    saved, params = theirs.state_dict(), [jnp.asarray(to_numpy(one)) for one in tensors]
    if way == "file":
        torch.save(saved, tmp_path / "torch.pt")
        saved = checkpoint.load(tmp_path / "torch.pt")
    if way == "pure":
        transform, state = torchwise.from_state_dict(saved, params, per_parameter_steps=True)
        step = jax.jit(lambda params, state, grads: transform.step(grads, state, params))
        for _ in range(50):
            grads = drawn(rng)
            step_theirs(reference, grads)
            given = [None if grad is None else grad.ours for grad in grads]
            params, state = step(params, state, given)
        back = torchwise.to_state_dict(transform, state, params)
    else:
        ours = optim.SparseAdam(grouped(params))
        ours.load_state_dict(saved)
        for _ in range(50):
            grads = drawn(rng)
            step_theirs(reference, grads)
            step_ours(ours, grads)
        back, params = ours.state_dict(), arrays_of(ours)
    assert_same_dict(back, reference.state_dict())
    if way == "file":
        checkpoint.save(tmp_path / "ours.pt", back)
        back = torch.load(tmp_path / "ours.pt", weights_only=True)
    else:
        back = as_tensors(back)
    again = tensors_of([np.asarray(param) for param in params])
    theirs = torch.optim.SparseAdam(grouped(again))
    theirs.load_state_dict(back)
    for _ in range(50):
        grads = drawn(rng)
        step_theirs(theirs, grads)
        step_theirs(reference, grads)
    for one, other in zip(again, whole):
        assert same_numbers(to_numpy(one), to_numpy(other))
    assert_same_dict(theirs.state_dict(), reference.state_dict())


def as_tensors(value):
    """A dict of ours as torch would have it."""
    if isinstance(value, dict):
        return {key: as_tensors(each) for key, each in value.items()}
    if isinstance(value, jax.Array):
        return torch.from_numpy(np.array(value))
    return [as_tensors(each) for each in value] if isinstance(value, list) else value


def test_a_dict_without_maximize_and_with_a_tensor_for_the_step():
    optimizer = optim.SparseAdam([jnp.ones((3, 2))])
    averages = {"exp_avg": np.ones((3, 2), "f4"), "exp_avg_sq": np.ones((3, 2), "f4")}
    group = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "params": [0]}
    entry = {"step": torch.tensor(7.0), **averages}
    saved = {"state": {0: entry}, "param_groups": [group]}
    optimizer.load_state_dict(saved)
    held = optimizer.state_dict()
    assert held["state"][0]["step"] == 7
    assert type(held["state"][0]["step"]) is int
    assert held["param_groups"][0]["maximize"] is False
    transform, state = torchwise.from_state_dict(saved, [jnp.ones((3, 2))])
    assert transform.chains[0].rule.name == "SparseAdam"
    assert state.step == 7
