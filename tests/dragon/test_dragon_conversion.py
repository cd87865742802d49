"""Torch's momentum buffers as Dragon's velocities, and back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from torchwise.dragon import torch_buffers_from_dragon, velocities_from_torch

BUFFERS = {"a": jnp.array([1.0, -3.0]), "b": None, "c": [jnp.full((2,), 0.1, jnp.bfloat16)]}
BOTH = [velocities_from_torch, torch_buffers_from_dragon]


def test_a_velocity_is_the_rate_times_the_buffer():
    velocities = velocities_from_torch(BUFFERS, 0.1)
    np.testing.assert_array_equal(velocities["a"], np.float32(0.1) * np.float32([1, -3]))
    assert velocities["b"] is None
    assert velocities["c"][0].dtype == jnp.bfloat16


@pytest.mark.parametrize("lr", [0.1, jnp.asarray(0.003), 7])
def test_the_way_back_ends_within_an_ulp(lr):
    values = {"a": jnp.asarray(np.random.default_rng(0).standard_normal(1000), jnp.float32)}
    back = torch_buffers_from_dragon(velocities_from_torch(values, lr), lr)
    np.testing.assert_array_max_ulp(np.asarray(back["a"]), np.asarray(values["a"]), 1)


CALLS = {
    "outside jit": lambda convert, values, lr: convert(values, lr),
    "number under jit": lambda convert, values, lr: jax.jit(convert, static_argnums=1)(values, lr),
    "array under jit": lambda convert, values, lr: jax.jit(convert)(values, jnp.asarray(lr)),
    "constant under jit": lambda convert, values, lr: jax.jit(
        functools.partial(convert, lr=jnp.asarray(lr))
    )(values),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("lr", [0.1, 0.003, 7.0])
def test_products_and_quotients_are_rounded_once(lr, call, precision):
    values = np.random.default_rng(1).standard_normal(10_007).astype(precision)
    rate = values.dtype.type(lr)
    np.testing.assert_array_equal(call(velocities_from_torch, values, lr), values * rate)
    np.testing.assert_array_equal(call(torch_buffers_from_dragon, values, lr), values / rate)


def test_rates_may_differ_by_group():
    lr = {"a": 0.5, "b": 1.0, "c": 0.25}
    velocities = velocities_from_torch({"a": jnp.ones(1), "b": None, "c": [jnp.ones(2)]}, lr)
    assert velocities["a"] == 0.5
    assert np.all(velocities["c"][0] == 0.25)


@pytest.mark.parametrize("convert", BOTH)
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"lr": 0.1, "initial_lr": 0.2}, r"changed from 0\.2 to 0\.1 .*allow_inexact=True"),
        ({"lr": {"a": 0.2, "b": 0.2, "c": 0.1}, "initial_lr": 0.2}, r"changed from 0\.2 to 0\.1"),
        ({"lr": 0.1, "dampening": 0.5}, r"dampening is 0\.5 .*allow_inexact=True"),
    ],
)
def test_what_is_not_exact_is_refused_unless_asked_for(convert, kwargs, message):
    with pytest.raises(ValueError, match=rf"^{convert.__name__}\(\): not exact, .*{message}"):
        convert(BUFFERS, **kwargs)
    asked_for = convert(BUFFERS, **kwargs, allow_inexact=True)
    np.testing.assert_array_equal(asked_for["a"], convert(BUFFERS, kwargs["lr"])["a"])


@pytest.mark.parametrize("convert", BOTH)
def test_an_unchanged_rate_is_exact(convert):
    assert convert(BUFFERS, 0.1, initial_lr=0.1)["a"].shape == (2,)


@pytest.mark.parametrize("convert", BOTH)
def test_a_schedule_is_no_rate(convert):
    with pytest.raises(TypeError, match="lr is a schedule; give the learning rate of the last"):
        convert(BUFFERS, lambda count: 0.1, allow_inexact=True)


@pytest.mark.parametrize("allow_inexact", [False, True])
def test_a_rate_of_zero_cannot_be_divided_by(allow_inexact):
    with pytest.raises(ValueError, match=r"^torch_buffers_from_dragon\(\): .* learning rate of 0"):
        torch_buffers_from_dragon(BUFFERS, 0.0, allow_inexact=allow_inexact)
