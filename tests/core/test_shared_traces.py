"""Leaves of one shape share a trace, and nothing that differs shares one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import torchwise
from distance import same_bits
from functional_run import updating
from rounds import FIRST, each


class Traced(dict):
    """How often a block was traced, by shape; compared by identity."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


class Fill(torchwise.Block):
    """Passes a number on, and takes note of every trace."""

    number: float
    traced: Traced = dataclasses.field(metadata={"static": True})

    def direction(self, grad, state, param, n):
        self.traced[grad.shape] = self.traced.get(grad.shape, 0) + 1
        return jnp.full_like(grad, self.number)


def step(transform, params):
    return updating(transform)(params, transform.init(params), params)[0]


def test_leaves_of_one_shape_are_traced_once():
    traced = Traced()
    params = {"a": [jnp.ones(7)] * 5, "b": jnp.ones((7, 2))}
    step(torchwise.chain(Fill(1.0, traced)), params)
    assert traced[7,] == traced[7, 2] > 0


def test_numbers_that_are_equal_and_not_the_same():
    """Same shapes, and constants that Python takes for one another."""
    params, traced = jnp.ones(3), Traced()
    updates = [
        jax.jit(transform.update)(params, transform.init(params), params)[0]
        for transform in (torchwise.chain(Fill(number, traced)) for number in (0.0, -0.0))
    ]
    assert [bool(np.signbit(update).all()) for update in updates] == [False, True]


class FillTwice(Fill):
    """A block whose structure JAX takes for that of `Fill`."""

    def direction(self, grad, state, param, n):
        return jnp.full_like(grad, 2 * self.number)


def test_blocks_of_other_types_with_the_same_fields():
    params, traced = jnp.ones(3), Traced()
    chains = [torchwise.chain(block(1.0, traced)) for block in (Fill, FillTwice)]
    assert jax.tree.structure(chains[0]) != jax.tree.structure(chains[1])
    arrays = jax.tree.map(jnp.asarray, chains[0])
    assert jax.tree.structure(chains[0]) == jax.tree.structure(arrays)
    for _ in range(2):
        found = [step(one, params)[0] for one in chains]
        assert found == [2.0, 3.0]  # added to the parameter


class Halving:
    """A schedule that cannot be hashed."""

    __hash__ = None

    def __eq__(self, other):
        return isinstance(other, Halving)

    def __call__(self, count):
        return 0.5 ** (count + 1.0)


@pytest.mark.parametrize("case", each(FIRST, FIRST[:1]))
def test_schedules_that_cannot_be_hashed(case):
    params = [jnp.ones(3), jnp.ones(3)]
    scheduled, constant = (
        case.optimizer.ours(**{**case.hyperparameters, "lr": lr}) for lr in (Halving(), 0.5)
    )
    with jax.numpy_dtype_promotion("standard"):
        found = step(scheduled, params)
    assert all(map(same_bits, found, step(constant, params)))
    assert not any(map(same_bits, found, params))
