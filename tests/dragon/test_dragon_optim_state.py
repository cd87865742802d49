"""dragon.SGD: state dicts, copies, the way to functions and back."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from dragon_oracle import ulps
from dragon_runs import gradients, parameters, rates

from torchwise import dragon

SIZE, STEPS = 17, 20
VARIANTS = [
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True, "momentum_correction": True},
    {"momentum": 0.0},
]


def build(variant, lr=0.1):
    groups = [
        {"params": [jnp.ones(SIZE), jnp.zeros(SIZE)], "lr_mult": 2.0, "decay_mult": 0.0},
        {"params": [jnp.ones(SIZE)], "clip_norm": 1.0},
    ]
    return dragon.SGD(groups, lr, weight_decay=0.02, **variant)


def run(optimizer, seed, steps):
    for lr, values in zip(rates(seed)[:steps], gradients(seed, SIZE)):
        for group in optimizer.param_groups:
            group["lr"] = lr
        for index, one in enumerate(parameters(optimizer)):
            one.grad = (index + 1) * values
        optimizer.step()


def assert_equal(ours, theirs):
    for one, other in zip(parameters(ours), parameters(theirs), strict=True):
        np.testing.assert_array_equal(one.data, other.data)
        assert ours.state.get(one, {}).keys() == theirs.state.get(other, {}).keys()
        for key, value in ours.state.get(one, {}).items():
            np.testing.assert_array_equal(value, theirs.state[other][key])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_loaded_state_dict_goes_on_to_the_bit(variant):
    first = build(variant)
    run(first, 1, STEPS)
    second = build(variant, lr=0.5)
    for one, other in zip(parameters(second), parameters(first)):
        one.data = other.data
    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    assert_equal(second, first)
    assert second.param_groups[0]["lr_mult"] == 2.0
    for optimizer in (first, second):
        run(optimizer, 2, STEPS)
    assert_equal(second, first)
    assert np.any(np.asarray(parameters(first)[1].data) != 0)


@pytest.mark.parametrize("correction", [False, True])
def test_a_velocity_that_is_not_in_use_is_kept(correction):
    def make():
        return dragon.SGD([jnp.ones(SIZE)], 0.1, 0.9, momentum_correction=correction)

    first, second = make(), make()
    run(first, 1, 2)
    first.param_groups[0]["momentum"] = 0
    run(first, 2, 1)
    (one,), (other,) = parameters(first), parameters(second)
    other.data = one.data
    second.load_state_dict(first.state_dict())
    for optimizer in (first, second):
        optimizer.param_groups[0]["momentum"] = 0.5
        run(optimizer, 3, 2)
    assert_equal(second, first)


def test_what_a_state_dict_holds():
    optimizer = build(VARIANTS[1])
    run(optimizer, 1, 3)
    saved = optimizer.state_dict()
    assert saved["state"].keys() == {0, 1, 2}
    assert {key: value.shape for key, value in saved["state"][0].items()} == {
        "velocity": (SIZE,),
        "last_lr": (),
    }
    assert saved["state"][0]["last_lr"] == np.float32(2 * rates(1)[2])
    assert "lr_mult" not in saved["param_groups"][1]


def test_frozen_parameters_do_not_stand_in_the_way_of_loading():
    optimizer = build(VARIANTS[0])
    parameters(optimizer)[0].requires_grad = False
    optimizer.load_state_dict(build(VARIANTS[0], lr=0.3).state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.3


@pytest.mark.parametrize(("saved", "live"), [(0, 1), (1, 0)])
def test_a_state_with_and_one_without_correction_are_not_mixed(saved, live):
    source, target = build(VARIANTS[saved]), build(VARIANTS[live])
    run(source, 1, 2)
    with pytest.raises(ValueError, match=r"group 1: momentum_correction is that of the constr"):
        target.load_state_dict(source.state_dict())
    assert not target.state


def test_a_rate_that_is_no_scalar_is_refused():
    optimizer = build(VARIANTS[1])
    run(optimizer, 1, 2)
    saved = optimizer.state_dict()
    saved["state"][2]["last_lr"] = jnp.ones(SIZE)
    with pytest.raises(ValueError, match=r"2: 'last_lr' has shape \(17,\), a scalar is wanted$"):
        optimizer.load_state_dict(saved)


def test_torchs_state_is_refused():
    weight = torch.nn.Parameter(torch.ones(SIZE))
    theirs = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.grad = torch.ones(SIZE)
    theirs.step()
    optimizer = dragon.SGD([jnp.ones(SIZE)], 0.1, 0.9)
    with pytest.raises(ValueError, match=r"parameter 0: unexpected state 'momentum_buffer'"):
        optimizer.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
@pytest.mark.parametrize("variant", VARIANTS)
def test_copies_go_on_within_a_window(variant, duplicate):
    optimizer = build(variant)
    run(optimizer, 1, 3)
    optimizer.accumulate_grad()
    other = duplicate(optimizer)
    for one in (optimizer, other):
        one.accumulate_grad()
        one.step()
        run(one, 2, 3)
    assert_equal(optimizer, other)


@pytest.mark.parametrize("variant", VARIANTS)
def test_its_functional_transform_continues_it(variant):
    optimizer, other = build(variant), build(variant)
    for one in (optimizer, other):
        run(one, 1, 3)
    transform, params, state = optimizer.to_functional()
    grads = [[jnp.ones(SIZE), None], [jnp.ones(SIZE)]]

    @jax.jit
    def step(params, state):
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    optimizer.from_functional(*step(params, state))
    first, _, third = parameters(other)
    other.zero_grad(reset=True)
    first.grad = third.grad = jnp.ones(SIZE)
    other.step()
    assert_equal(optimizer, other)


def test_train_step_is_backward_and_step():
    def loss(params):
        return sum(jnp.sum(one**2) for group in params for one in group)

    optimizer, other = build(VARIANTS[0]), build(VARIANTS[0])
    for _ in range(3):
        before = optimizer.backward(loss)
        optimizer.step()
        assert other.train_step(loss) == before
    assert_equal(optimizer, other)


@pytest.mark.parametrize("nesterov", [False, True])
def test_converted_buffers_go_on_as_torchs(nesterov):
    values = gradients(5, SIZE)
    weight = torch.nn.Parameter(torch.ones(SIZE))
    theirs = torch.optim.SGD([weight], lr=0.1, momentum=0.9, nesterov=nesterov)
    ours = dragon.SGD([jnp.ones(SIZE)], 0.1, 0.9, nesterov=nesterov)
    (one,) = parameters(ours)
    magnitude = np.ones(SIZE, np.float32)
    for index in range(STEPS):
        weight.grad = torch.tensor(values[index])
        theirs.step()
        if index == 9:
            one.data = weight.detach().numpy()
            buffer = theirs.state[weight]["momentum_buffer"].numpy()
            ours.state[one]["velocity"] = dragon.velocities_from_torch(buffer, 0.1)
        if index > 9:
            one.grad = values[index]
            ours.step()
        magnitude = np.maximum(magnitude, np.abs(weight.detach().numpy()))
    # each of ten steps rounds a few numbers that are no larger than the parameter has been
    assert ulps(np.asarray(one.data), weight.detach().numpy(), magnitude) <= 3
