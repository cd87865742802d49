"""Derivatives through optimizers and blocks where the gradient is zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import torchwise

PARAM = np.array([0.5, -2.0], np.float32)
ROOTS = {  # those that take the root of what the first gradient has made
    "Adagrad": torchwise.adagrad,
    "RMSprop": torchwise.rmsprop,
    "Adam": torchwise.adam,
    "AdamW": torchwise.adamw,
    "NAdam": torchwise.nadam,
}
OTHERS = {"SGD": torchwise.sgd, "ASGD": torchwise.asgd, "Adamax": torchwise.adamax}


def slopes(function, grads):
    """How the parameters after these gradients depend on the first of them."""

    def moved(first):
        param, transform = jnp.asarray(PARAM), function(0.1)
        state = transform.init(param)
        for grad in (first, *map(jnp.asarray, grads[1:])):
            param, state = transform.step(grad, state, param)
        return jnp.sum(param)

    return np.asarray(jax.jit(jax.grad(moved))(jnp.asarray(grads[0])))


def slopes_in_torch(name, grads):
    first = torch.tensor(grads[0], requires_grad=True)
    param = torch.tensor(PARAM, requires_grad=True)
    moved = param.clone()
    optimizer = getattr(torch.optim, name)([moved], lr=0.1, differentiable=True)
    for grad in (first, *map(torch.tensor, grads[1:])):
        moved.grad = grad
        optimizer.step()
    moved.sum().backward()
    return first.grad.numpy()


@pytest.mark.parametrize("name", ROOTS)
def test_a_root_of_zero_has_no_slope_as_in_torch(name):
    grads = np.array([[0.0, 0.5], [0.25, 0.5]], np.float32)
    for steps in (1, 2):
        ours, theirs = slopes(ROOTS[name], grads[:steps]), slopes_in_torch(name, grads[:steps])
        assert np.isnan(ours[0]), steps
        assert np.isnan(theirs[0]), steps
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OTHERS)
def test_other_optimizers_have_slopes_everywhere(name):
    assert np.isfinite(slopes(OTHERS[name], np.zeros((1, 2), np.float32))).all()


def test_a_state_that_is_not_zero_gives_a_root_a_slope():
    def adagrad(lr):
        return torchwise.adagrad(lr, initial_accumulator_value=0.25)

    found = slopes(adagrad, np.zeros((1, 2), np.float32))
    np.testing.assert_allclose(found, -0.1 / 0.5, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
@pytest.mark.parametrize("grad", [[0.0, 0.0], [0.3, 0.4], [3.0, 4.0], [0.6, 0.8]])
def test_clipping_has_slopes_everywhere(dtype, grad):
    block = torchwise.clip_each_by_norm(1.0)

    def clipped(grad):
        return jnp.sum(jnp.real(block.update(grad, block.init(grad), grad)[0]))

    grad = jnp.asarray(grad, dtype)
    found = np.asarray(jax.grad(clipped)(grad), np.complex64)
    norm = float(np.linalg.norm(np.asarray(grad, np.complex64)))
    unit = np.asarray(grad, np.complex64).real / norm if norm else 0
    expected = 1 if norm <= 1.001 else (1 - unit * unit.sum()) / norm
    np.testing.assert_allclose(found, np.broadcast_to(expected, 2), atol=0.02)
