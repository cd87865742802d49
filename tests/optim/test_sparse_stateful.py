"""Sparse gradients in the stateful API, and SparseAdam's state dicts there and in torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.experimental.sparse import BCOO
from state_dict_tools import assert_same_dict, tensors_of

import torchwise
from distance import same_bits, same_numbers
from functional_run import draw
from sparse_gradients import entries
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


def step_ours(optimizer, grads):
    for parameter, grad in zip(parameters_of(optimizer), grads, strict=True):
        parameter.grad = None if grad is None else grad.ours
    optimizer.step()


def step_theirs(optimizer, grads):
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    with correctly_rounded_sqrt(), coalescing_in_order():
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = None if grad is None else grad.theirs
        optimizer.step()


def parameters_of(optimizer):
    return [one for group in optimizer.param_groups for one in group["params"]]


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


@pytest.mark.parametrize("way", ["stateful", "pure", "file"])
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


def test_a_late_group_and_the_functional_way(runs):
    ours, _, _ = runs
    step_ours(ours, drawn(np.random.default_rng(3)))
    late = np.ones((4, 2), np.float32)
    ours.add_param_group({"params": [late], "lr": 0.5})
    grad = entries(np.random.default_rng(4), (4, 2), 1, 3, "float32")
    transform, params, state = ours.to_functional()
    given = [[None], [None, None], [grad.ours]]
    params, state = transform.step(given, state, params)
    step_ours(ours, [None, None, None, grad])
    assert same_bits(params[2][0], ours.params[2][0])
    assert not same_bits(params[2][0], late)
    ours.from_functional(params, state)
    assert ours.state[parameters_of(ours)[3]]["step"] == 1


def test_gradients_of_a_parameter():
    optimizer = optim.SGD({"w": jnp.ones((3, 2))}, lr=0.5)
    (w,) = parameters_of(optimizer)
    grad = BCOO((np.ones((2, 2), np.float32), np.array([[1], [1]])), shape=(3, 2))
    w.grad = grad
    optimizer.backward(lambda params: params["w"].sum())  # a dense one is added
    assert np.array_equal(w.grad, [[1, 1], [3, 3], [1, 1]])
    w.grad = grad
    optimizer.zero_grad(set_to_none=False)
    assert (w.grad.nse, w.grad.shape) == (0, (3, 2))
    optimizer.step()
    assert np.array_equal(optimizer.params["w"], np.ones((3, 2)))
    for wrong, error, text in (
        (BCOO.fromdense(jnp.ones((3, 2)), n_batch=1), ValueError, "'w': the gradient is a BCOO"),
        (BCOO.fromdense(jnp.ones((2, 2))), ValueError, r"gradient \(2, 2\)"),
        (BCOO.fromdense(jnp.ones((3, 2), jnp.bfloat16)), TypeError, "gradient bfloat16"),
    ):
        with pytest.raises(error, match=text):
            w.grad = wrong


def test_hooks_see_the_gradient_and_may_change_it():
    optimizer = optim.SparseAdam([jnp.ones((3, 2))], lr=0.5)
    (table,) = parameters_of(optimizer)
    table.grad = entries(np.random.default_rng(0), (3, 2), 1, 1, "float32").ours
    seen = []

    def drop(optimizer, args, kwargs):
        seen.append(table.grad)
        table.grad = None

    optimizer.register_step_pre_hook(drop)
    optimizer.step()
    assert isinstance(seen[0], BCOO)
    assert same_bits(optimizer.params[0], np.ones((3, 2), np.float32))


def test_one_program_whatever_the_rows_and_the_rate():
    optimizer = optim.SparseAdam([jnp.ones((17, 5))])
    rng = np.random.default_rng(5)
    sizes = []
    for lr in (0.1, 0.2, 0.3):
        optimizer.param_groups[0]["lr"] = lr
        step_ours(optimizer, [entries(rng, (17, 5), 1, 6, "float32")])
        sizes.append(optim.engine.update._cache_size())
    assert sizes[0] == sizes[-1]


def test_lbfgs_takes_them_as_dense_ones():
    """As torch does."""
    param, theirs = np.ones((3, 2), np.float32), torch.ones(3, 2)
    grad = entries(np.random.default_rng(0), (3, 2), 1, 2, "float32", most=1)
    ours, oracle = optim.LBFGS([param], max_iter=1), torch.optim.LBFGS([theirs], max_iter=1)

    def closure(parameter, given, one):
        def call():
            parameter.grad = given
            return one

        return call

    ours.step(closure(parameters_of(ours)[0], grad.ours, jnp.ones(())))
    oracle.step(closure(theirs, grad.theirs, torch.tensor(1.0)))
    np.testing.assert_allclose(ours.params[0], theirs.numpy(), rtol=1e-6)
    assert not same_bits(ours.params[0], param)
