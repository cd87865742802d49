"""Numbers are data: no learning rate compiles anything again."""

import jax.numpy as jnp
import numpy as np

from torchwise import optim
from torchwise.optim import engine


def loss(params):
    return sum(jnp.sum(leaf**2) for leaf in params)


def test_one_program_for_100_learning_rates_in_step():
    optimizer = optim.SGD([jnp.ones(3), jnp.ones(2)], lr=0.1, momentum=0.9, weight_decay=0.1)
    optimizer.backward(loss)
    optimizer.step()
    programs = engine.update._cache_size()
    for index in range(100):
        optimizer.param_groups[0].update(
            lr=0.1 / (1 + index), momentum=0.9 - index / 200, weight_decay=0.1 / (1 + index)
        )
        optimizer.step()
    assert engine.update._cache_size() == programs
    assert np.all(np.isfinite(optimizer.params[0]))


def test_one_program_for_100_learning_rates_in_train_step():
    optimizer = optim.Adagrad([jnp.ones(3), jnp.ones(2)], lr=0.1, lr_decay=0.01)
    optimizer.train_step(loss)
    programs = engine.train._cache_size()
    for index in range(100):
        optimizer.param_groups[0]["lr"] = jnp.asarray(0.1 / (1 + index))
        optimizer.train_step(loss)
    assert engine.train._cache_size() == programs


def test_late_parameters_compile_once_more_and_no_more():
    optimizer = optim.Adagrad([jnp.ones(3), jnp.ones(2)], lr=0.1, lr_decay=0.01)
    first, second = optimizer.param_groups[0]["params"]
    first.grad = jnp.ones(3)
    optimizer.step()
    second.grad = jnp.ones(2)
    optimizer.step()
    programs = engine.update._cache_size()
    for _ in range(10):
        optimizer.step()
    assert engine.update._cache_size() == programs
    steps = [entry["step"] for entry in optimizer.state_dict()["state"].values()]
    assert steps == [12, 11]
