"""dragon.sgd against torch's SGD: one under constant and corrected rates, else not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dragon_oracle import ulps
from dragon_runs import (
    DTYPES,
    MOMENTA,
    STEPS,
    advance,
    distance,
    gradients,
    our_run,
    rates,
    torch_run,
)

from torchwise import dragon


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_momentum_it_is_torchs_sgd_to_the_bit(dtype):
    lrs, values = rates(7), gradients(8)
    ours, _ = our_run(values, lrs, dtype, weight_decay=0.02)
    theirs, _ = torch_run(values, lrs, dtype, weight_decay=0.02)
    np.testing.assert_array_equal(ours, theirs)


# In ulps of the largest number that the step adds. A move far below the parameter hides that the
# velocity is rounded where torch's buffer is not; one as large as the parameter shows it.
@pytest.mark.parametrize(("lr", "allowed"), [(0.001, 1), (0.05, 2.25)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.02])
@pytest.mark.parametrize(("momentum", "nesterov"), MOMENTA)
def test_a_step_from_torchs_state_is_torchs_step(
    momentum, nesterov, weight_decay, dtype, lr, allowed
):
    kwargs = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
    values = gradients(6)
    params, buffers = torch_run(values, [lr] * STEPS, dtype, **kwargs)
    velocities = np.asarray(dragon.velocities_from_torch(buffers, lr))
    transform = dragon.sgd(lr, **kwargs)
    state = transform.init(params[0])
    for x, m, grad, expected in zip(params, velocities, values, params[1:]):
        state = with_velocity(state, m)
        new, _ = advance(transform, grad.astype(DTYPES[dtype]), state, x)
        terms = np.max(np.abs([x, expected, expected - x, m]), axis=0)
        assert ulps(np.asarray(new), expected, terms) <= allowed


def with_velocity(state, velocity):
    last = state.states[-1]._replace(velocity=jnp.asarray(velocity))
    return state._replace(states=(*state.states[:-1], last))


# The roundings of 100 steps are a random walk, torch's as well as ours: two right answers are some
# ulps apart (11 measured), and the next test shows that neither is the worse one.
@pytest.mark.parametrize("lr", [0.001, 0.05])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.02])
@pytest.mark.parametrize(("momentum", "nesterov"), MOMENTA)
def test_a_constant_rate_gives_torchs_trajectory(momentum, nesterov, weight_decay, dtype, lr):
    kwargs = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
    ours, _ = our_run(gradients(6), [lr] * STEPS, dtype, **kwargs)
    theirs, _ = torch_run(gradients(6), [lr] * STEPS, dtype, **kwargs)
    assert distance(ours, theirs) <= 12


@pytest.mark.parametrize("lr", [0.001, 0.05])
@pytest.mark.parametrize(("momentum", "nesterov"), MOMENTA)
def test_its_rounding_errors_are_as_small_as_torchs(momentum, nesterov, lr):
    kwargs = {"momentum": float(np.float32(momentum)), "nesterov": nesterov}
    lrs = [float(np.float32(lr))] * STEPS
    values = gradients(6, size=4000)
    exact, _ = torch_run(values, lrs, "float64", **kwargs)
    ours, _ = our_run(values, lrs, "float32", **kwargs)
    theirs, _ = torch_run(values, lrs, "float32", **kwargs)
    spacing = np.spacing(np.maximum.accumulate(np.abs(exact)).astype(np.float32))
    assert root_mean_square(ours, exact, spacing) <= 1.1 * root_mean_square(theirs, exact, spacing)


def root_mean_square(actual, exact, spacing):
    return np.sqrt(np.mean(((actual - exact) / spacing) ** 2))


@pytest.mark.parametrize(("momentum", "nesterov"), MOMENTA)
def test_a_changing_rate_does_not_give_torchs_trajectory(momentum, nesterov):
    lrs, values = [0.1] * 50 + [0.01] * 50, gradients(9)
    kwargs = {"momentum": momentum, "nesterov": nesterov}
    ours, _ = our_run(values, lrs, "float64", **kwargs)
    theirs, _ = torch_run(values, lrs, "float64", **kwargs)
    gap = np.max(np.abs(ours - theirs), axis=1)
    assert gap[50] < 1e-13  # the same for as long as the rate is
    assert gap[51] > 0.4  # the buffer goes on at the old rate
    assert gap[-1] > 4


# As under a constant rate, and one more rounding at every change: 17 measured.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("momentum", "nesterov"), MOMENTA)
@pytest.mark.parametrize("zeros", [(), (0, 1, 2), (30, 31), (0, 50, 99)])
def test_correction_gives_torchs_trajectory_under_changing_rates(momentum, nesterov, zeros, dtype):
    lrs = [0.0 if index in zeros else lr for index, lr in enumerate(rates(10))]
    kwargs = {"momentum": momentum, "nesterov": nesterov}
    ours, state = our_run(gradients(11), lrs, dtype, **kwargs, momentum_correction=True)
    theirs, buffers = torch_run(gradients(11), lrs, dtype, **kwargs)
    assert distance(ours, theirs) <= 17
    velocity, last_lr = state.states[-1]
    assert last_lr == DTYPES[dtype]([lr for lr in lrs if lr][-1])
    buffer = np.asarray(dragon.torch_buffers_from_dragon(velocity, last_lr))
    assert ulps(buffer, buffers[-1], np.max(np.abs(buffers), axis=0)) <= 4
