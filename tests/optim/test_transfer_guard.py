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
