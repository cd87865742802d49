"""Steps where JAX forbids that arrays move between host and device by themselves."""

import jax
import jax.numpy as jnp
import pytest

from torchwise import optim


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam], ids=["SGD", "Adam"])
@pytest.mark.parametrize("level", ["disallow", "log"])
def test_a_changed_rate_is_moved_where_that_is_forbidden_to_jit(make, level):
    plain, guarded = (make({"w": jnp.ones(3)}, lr=0.1) for _ in range(2))

    def run(optimizer):
        for lr in (0.1, 0.2, 0.3):
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()

    for optimizer in (plain, guarded):
        optimizer.backward(lambda params: jnp.sum(params["w"] ** 2))
        optimizer.step()  # makes the state, out of constants
    run(plain)
    with jax.transfer_guard_host_to_device(level):
        run(guarded)
    assert jnp.array_equal(plain.params["w"], guarded.params["w"])


MAKERS = {
    "momentum": lambda params: optim.SGD(params, lr=0.1, momentum=0.9),
    "Adam": optim.Adam,
    "Adagrad": optim.Adagrad,
    "NAdam": optim.NAdam,
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_first_step_makes_its_state(name):
    """Out of constants, which are moved as `jax.device_put` moves them."""

    def loss(params):
        return jnp.sum(params["w"] ** 2)

    def run(optimizer):
        optimizer.backward(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        optimizer.step()
        return optimizer.params["w"]

    params = {"w": jnp.ones(3)}
    expected = run(MAKERS[name](params))
    with jax.transfer_guard("disallow"):
        found = run(MAKERS[name](params))
        one = MAKERS[name](params)
        one.train_step(loss)
    assert jnp.array_equal(found, expected)
    with (
        jax.transfer_guard("disallow_explicit"),
        pytest.raises(Exception, match="Disallowed host-to-device transfer"),
    ):
        run(MAKERS[name](params))
