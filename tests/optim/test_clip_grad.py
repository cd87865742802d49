"""torch.nn.utils over parameters, and clipping within train_step."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import torchwise
from distance import same_bits
from torch_oracle import to_numpy, to_torch
from torchwise import optim
from torchwise.nn import utils
from torchwise.optim import engine

GRADS = [np.array([3.0, 0.0, -4.0], np.float32), np.array([[12.0]], np.float32)]


def ours(grads=GRADS):
    parameters = []
    for grad in grads:
        parameter = optim.Parameter(jnp.zeros(grad.shape, grad.dtype))
        parameter.grad = jnp.asarray(grad)
        parameters.append(parameter)
    return [*parameters, optim.Parameter(jnp.zeros(2))]  # the last has no gradient


def theirs(grads=GRADS):
    parameters = []
    for grad in grads:
        parameter = torch.nn.Parameter(torch.zeros_like(to_torch(grad)))
        parameter.grad = to_torch(grad)
        parameters.append(parameter)
    return [*parameters, torch.nn.Parameter(torch.zeros(2))]


def check(call, *args, **kwargs):
    mine, others = ours(), theirs()
    result = getattr(utils, call)(mine, *args, **kwargs)
    expected = getattr(torch.nn.utils, call)(others, *args, **kwargs)
    assert (result is None) == (expected is None)
    if result is not None:
        assert same_bits(result, to_numpy(expected))
    for one, other in zip(mine, others):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            assert same_bits(one.grad, to_numpy(other.grad))


@pytest.mark.parametrize("norm_type", [2.0, 1, "inf", math.inf, 0])
@pytest.mark.parametrize("max_norm", [0.0, 1.0, 6.5, 100.0])
def test_clip_grad_norm(norm_type, max_norm):
    check("clip_grad_norm_", max_norm, norm_type, foreach=None)


@pytest.mark.parametrize("clip_value", [0.0, 1.0, 3.5, 100])
def test_clip_grad_value(clip_value):
    check("clip_grad_value_", clip_value)


def test_with_a_norm_of_ones_own():
    mine, others = ours(), theirs()
    utils.clip_grads_with_norm_(mine, 1.0, jnp.float32(7.3))
    torch.nn.utils.clip_grads_with_norm_(others, 1.0, torch.tensor(7.3))
    for one, other in zip(mine[:2], others):
        assert same_bits(one.grad, to_numpy(other.grad))


def test_total_norms():
    arrays = [jnp.asarray(grad) for grad in GRADS]
    for given in (arrays, (array for array in arrays), {"tree": arrays}):
        assert utils.get_total_norm(given) == 13
    assert utils.get_total_norm(arrays[0]) == 5
    assert utils.get_total_norm([]) == 0


def test_what_may_be_given():
    [first, *_] = ours()
    assert utils.clip_grad_norm_(first, 1.0) == 5
    with pytest.warns(UserWarning, match="empty generator") as mine:
        assert utils.clip_grad_norm_((one for one in []), 1.0) == 0
    with pytest.warns(UserWarning, match="empty generator") as others:
        torch.nn.utils.clip_grad_norm_((one for one in []), 1.0)
    assert str(mine[0].message) == str(others[0].message)
    utils.clip_grad_value_([], 1.0)
    with pytest.raises(TypeError, match=r"expected torchwise.optim.Parameter"):
        utils.clip_grad_norm_([jnp.ones(2)], 1.0)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_an_error_leaves_gradients_alone(value):
    grads = [np.array([1.0, value], np.float32)]
    mine, others = ours(grads), theirs(grads)
    with pytest.raises(RuntimeError) as expected:
        torch.nn.utils.clip_grad_norm_(others, 1.0, error_if_nonfinite=True)
    with pytest.raises(RuntimeError) as raised:
        utils.clip_grad_norm_(mine, 1.0, error_if_nonfinite=True)
    assert str(raised.value) == str(expected.value)
    assert mine[0].grad[0] == 1
    for call in (utils.clip_grad_norm_, utils.clip_grad_value_):
        with pytest.raises(ValueError, match="must be at least 0"):
            call(mine, -1.0)


# train_step.


def loss(groups, factors):
    return sum(jnp.sum(leaf * factor) for leaf, factor in zip(jax.tree.leaves(groups), factors))


def called_back(groups, factors):
    jax.debug.callback(lambda: None)
    return loss(groups, factors)


@pytest.mark.parametrize("function", [loss, called_back], ids=["one program", "two programs"])
@pytest.mark.parametrize("name", ["SGD", "Adamax"])
def test_train_step_clips_all_groups_together(name, function):
    """The gradients are integers, and so are their norms."""
    start = [np.full(3, 2.0, np.float32), np.full((1, 1), -1.0, np.float32)]
    mine = getattr(optim, name)(
        [{"params": [jnp.asarray(start[0])]}, {"params": [jnp.asarray(start[1])], "lr": 0.3}],
        lr=0.1,
    )
    tensors = list(map(to_torch, start))
    other = getattr(torch.optim, name)(
        [{"params": tensors[:1]}, {"params": tensors[1:], "lr": 0.3}], lr=0.1
    )
    for limit in (6.5, 100.0, 1.0, np.float64(2.5)):
        mine.train_step(function, GRADS, max_grad_norm=limit)
        for tensor, grad in zip(tensors, GRADS):
            tensor.grad = to_torch(grad)
        norm = torch.nn.utils.clip_grad_norm_(tensors, float(limit))
        other.step()
        assert same_bits(mine.grad_norm, to_numpy(norm))
    for (array,), tensor in zip(mine.params, tensors):
        assert same_bits(array, to_numpy(tensor))


def test_the_norm_is_that_of_the_last_step():
    optimizer = optim.SGD({"w": jnp.ones(2)}, lr=0.1)
    square = functools.partial(lambda params: jnp.sum(params["w"] ** 2))
    assert optimizer.grad_norm is None
    optimizer.train_step(square, max_grad_norm=1.0)
    np.testing.assert_allclose(optimizer.grad_norm, math.sqrt(8), rtol=1e-6)
    optimizer.train_step(square)
    assert optimizer.grad_norm is None
    optimizer.train_step(square, max_grad_norm=1.0)
    optimizer.backward(square)
    optimizer.step()
    assert optimizer.grad_norm is None


def test_another_bound_is_other_data():
    optimizer = optim.Adam({"w": jnp.ones(2)}, lr=0.1)

    def square(params):
        return jnp.sum(params["w"] ** 2)

    optimizer.train_step(square, max_grad_norm=1.0)
    programs = engine.train._cache_size()
    for limit in (2.0, 0.5, jnp.asarray(0.25), math.inf):
        optimizer.train_step(square, max_grad_norm=limit)
    assert engine.train._cache_size() == programs


def test_a_bound_that_is_refused_changes_nothing():
    optimizer = optim.SGD({"w": jnp.ones(2)}, lr=0.1)
    for limit in (-1.0, math.nan):
        with pytest.raises(ValueError, match="max_grad_norm must be at least 0"):
            optimizer.train_step(lambda params: jnp.sum(params["w"]), max_grad_norm=limit)
    assert optimizer.params["w"].tolist() == [1, 1]


def test_the_same_steps_as_a_chain():
    """The two programs find the same norm of gradients that are no integers."""
    rng = np.random.default_rng(0)
    start = {"w": jnp.asarray(rng.normal(size=(33, 7)).astype("f4")), "b": jnp.ones(7)}
    x = jnp.asarray(rng.normal(size=(16, 33)).astype("f4"))

    def squares(params, x):
        return jnp.sum((x @ params["w"] + params["b"]) ** 2)

    optimizer = optim.AdamW(start, lr=0.1)
    transform = torchwise.chain(torchwise.clip_grad_norm(1.0), torchwise.adamw(lr=0.1))
    step = jax.jit(lambda p, state, grads: transform.step(grads, state, p))
    params, state = start, transform.init(start)
    for _ in range(5):
        grads = jax.jit(jax.grad(squares))(params, x)
        norm = torchwise.get_total_norm(grads)
        params, state = step(params, state, grads)
        optimizer.train_step(squares, x, max_grad_norm=1.0)
        np.testing.assert_allclose(optimizer.grad_norm, norm, rtol=1e-5)
    for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(optimizer.params)):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
