"""Gradients of complex parameters are torch's: minus them is where the loss falls."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from distance import ulps_apart
from torch_oracle import to_numpy, to_torch
from torchwise import optim

TARGET = np.array([1 + 2j, -3 - 0.5j, 0.25j], np.complex64)
START = {"b": np.ones(3, np.float32), "z": np.array([-1 - 1j, 2 + 2j, 1 + 0j], np.complex64)}


def loss(params):
    square = jnp.sum(jnp.abs(params["z"] - TARGET) ** 2)
    return square + jnp.sum((params["b"] * params["z"].imag - TARGET.imag) ** 2)


def torchs_gradients():
    b, z = (to_torch(START[key]).requires_grad_() for key in ("b", "z"))
    square = ((z - to_torch(TARGET)).abs() ** 2).sum()
    (square + ((b * z.imag - to_torch(TARGET.imag)) ** 2).sum()).backward()
    return to_numpy(b.grad), to_numpy(z.grad.resolve_conj())


def test_backward_gives_torchs_gradients():
    optimizer = optim.SGD(START)
    for times in (1, 2):
        optimizer.backward(loss)
        for parameter, expected in zip(
            optimizer.param_groups[0]["params"], torchs_gradients(), strict=True
        ):
            assert ulps_apart(parameter.grad, times * expected) <= 4


def test_a_whole_step_descends():
    ours, rows = optim.SGD(START, lr=0.1), []
    stepwise = optim.SGD(START, lr=0.1)
    for _ in range(100):
        rows.append(float(ours.train_step(loss)))
        stepwise.zero_grad()
        stepwise.backward(loss)
        stepwise.step()
    assert all(map(np.array_equal, *map(jax.tree.leaves, (ours.params, stepwise.params))))
    assert rows[-1] < 0.01 * rows[0]
    assert all(later <= earlier for earlier, later in itertools.pairwise(rows))


def test_lbfgs_descends():
    optimizer = optim.LBFGS(START, line_search_fn="strong_wolfe")
    before = float(loss(START))
    optimizer.train_step(loss)
    assert float(loss(optimizer.params)) < 0.01 * before
