"""Sparse gradients of stateful optimizers."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.experimental.sparse import BCOO

from distance import same_bits
from sparse_gradients import entries, parameters_of, step_ours
from torchwise import optim


def test_a_late_group_and_the_functional_way():
    ours = optim.SparseAdam([jnp.ones((3, 2)), jnp.ones((2, 2))])
    first = entries(np.random.default_rng(3), (3, 2), 1, 3, "float32")
    step_ours(ours, [first, None])
    late = np.ones((4, 2), np.float32)
    ours.add_param_group({"params": [late], "lr": 0.5})
    grad = entries(np.random.default_rng(4), (4, 2), 1, 3, "float32")
    transform, params, state = ours.to_functional()
    given = [[None, None], [grad.ours]]
    params, state = transform.step(given, state, params)
    step_ours(ours, [None, None, grad])
    assert same_bits(params[1][0], ours.params[1][0])
    assert not same_bits(params[1][0], late)
    ours.from_functional(params, state)
    assert ours.state[parameters_of(ours)[2]]["step"] == 1


def test_gradients_of_a_parameter():
    optimizer = optim.SGD({"w": jnp.ones((3, 2))}, lr=0.5)
    (w,) = parameters_of(optimizer)
    grad = BCOO((np.ones((2, 2), np.float32), np.array([[1], [1]])), shape=(3, 2))
    w.grad = grad
    optimizer.backward(lambda params: params["w"].sum())  # a dense one is added
    assert np.array_equal(w.grad, [[1, 1], [3, 3], [1, 1]])
    w.grad = grad
    optimizer.zero_grad(set_to_none=False)
    assert (w.grad.nse, w.grad.shape) == (0, (3, 2))
    optimizer.step()
    assert np.array_equal(optimizer.params["w"], np.ones((3, 2)))
    for wrong, error, text in (
        (BCOO.fromdense(jnp.ones((3, 2)), n_batch=1), ValueError, "'w': the gradient is a BCOO"),
        (BCOO.fromdense(jnp.ones((2, 2))), ValueError, r"gradient \(2, 2\)"),
        (BCOO.fromdense(jnp.ones((3, 2), jnp.bfloat16)), TypeError, "gradient bfloat16"),
    ):
        with pytest.raises(error, match=text):
            w.grad = wrong


def test_hooks_see_the_gradient_and_may_change_it():
    optimizer = optim.SparseAdam([jnp.ones((3, 2))], lr=0.5)
    (table,) = parameters_of(optimizer)
    table.grad = entries(np.random.default_rng(0), (3, 2), 1, 1, "float32").ours
    seen = []

    def drop(optimizer, args, kwargs):
        seen.append(table.grad)
        table.grad = None

    optimizer.register_step_pre_hook(drop)
    optimizer.step()
    assert isinstance(seen[0], BCOO)
    assert same_bits(optimizer.params[0], np.ones((3, 2), np.float32))


def test_one_program_whatever_the_rows_and_the_rate():
    optimizer = optim.SparseAdam([jnp.ones((17, 5))])
    rng = np.random.default_rng(5)
    sizes = []
    for lr in (0.1, 0.2, 0.3):
        optimizer.param_groups[0]["lr"] = lr
        step_ours(optimizer, [entries(rng, (17, 5), 1, 6, "float32")])
        sizes.append(optim.engine.update._cache_size())
    assert sizes[0] == sizes[-1]


def test_lbfgs_takes_them_as_dense_ones():
    """As torch does."""
    param, theirs = np.ones((3, 2), np.float32), torch.ones(3, 2)
    grad = entries(np.random.default_rng(0), (3, 2), 1, 2, "float32", most=1)
    ours, oracle = optim.LBFGS([param], max_iter=1), torch.optim.LBFGS([theirs], max_iter=1)

    def closure(parameter, given, one):
        def call():
            parameter.grad = given
            return one

        return call

    ours.step(closure(parameters_of(ours)[0], grad.ours, jnp.ones(())))
    oracle.step(closure(theirs, grad.theirs, torch.tensor(1.0)))
    np.testing.assert_allclose(ours.params[0], theirs.numpy(), rtol=1e-6)
    assert not same_bits(ours.params[0], param)
