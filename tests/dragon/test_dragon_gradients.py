"""dragon.SGD's handling of gradients: backward, sums over windows, zero_grad."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dragon_runs import parameters

import torchwise
from torchwise import dragon

SIZE = 67


def linear(params):
    return jnp.sum(params[0])


def test_dragons_own_example_of_accumulation():
    """Its docstring: two updates, each by three gradients of one at a rate of 0.1, end at 0.4."""
    optimizer = dragon.SGD([jnp.ones(1)], lr=0.1)
    for _ in range(2):
        for _ in range(3):
            optimizer.backward(linear)
            optimizer.accumulate_grad()
        optimizer.step()
    np.testing.assert_allclose(optimizer.params[0], [0.4], rtol=1e-6)


def test_backward_overwrites():
    optimizer = dragon.SGD([jnp.ones(1)], lr=0.1)
    for _ in range(3):
        loss = optimizer.backward(linear)
    assert loss == 1
    assert parameters(optimizer)[0].grad == 1


def test_a_step_uses_up_the_sum_and_leaves_the_gradient():
    optimizer = dragon.SGD([jnp.zeros(1)], lr=1.0)
    (one,) = parameters(optimizer)
    one.grad = jnp.ones(1)
    optimizer.accumulate_grad()
    optimizer.accumulate_grad()
    optimizer.step()
    assert one.data == -2
    optimizer.step()
    assert one.data == -3


def test_a_sum_survives_a_gradient_that_is_gone():
    optimizer = dragon.SGD([jnp.zeros(1), jnp.zeros(1)], lr=1.0)
    first, second = parameters(optimizer)
    first.grad = jnp.ones(1)
    optimizer.accumulate_grad()
    first.grad, second.grad = None, jnp.ones(1)
    optimizer.accumulate_grad()
    optimizer.step()
    assert (first.data, second.data) == (-1, -1)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("in_window", [False, True])
def test_zeros_let_momentum_go_on_and_a_reset_stops_it(reset, in_window):
    optimizer = dragon.SGD([jnp.zeros(1)], lr=1.0, momentum=0.5)
    (one,) = parameters(optimizer)
    one.grad = jnp.ones(1)
    optimizer.step()
    if in_window:
        optimizer.accumulate_grad()
    optimizer.zero_grad(reset=reset)
    optimizer.step()
    assert one.data == (-1 if reset else -1.5)


@pytest.mark.parametrize(("reduction", "scale"), [("sum", 1), ("mean", 1 / 4)])
def test_the_functional_accumulation_is_this_one(reduction, scale):
    values = np.random.default_rng(3).integers(-32, 32, (8, SIZE)) / 16  # exact sums, in any order
    x, weight = jnp.asarray(values, jnp.float32), jnp.linspace(-1, 1, SIZE)
    optimizer = dragon.SGD({"w": weight}, 0.1, 0.9, scale=scale)
    transform = dragon.sgd(0.1, 0.9)

    def loss(params, batch):
        return jnp.sum(batch * params["w"])

    @jax.jit
    def update(params, state):
        grads = torchwise.accumulate_gradients(jax.grad(loss), 4, reduction)(params, x)
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = {"w": weight}
    state = transform.init(params)
    for _ in range(5):
        params, state = update(params, state)
        for batch in jnp.split(x, 4):
            optimizer.backward(loss, batch)
            optimizer.accumulate_grad()
        optimizer.step()
    assert np.any(params["w"] != weight)
    np.testing.assert_array_equal(optimizer.params["w"], params["w"])
