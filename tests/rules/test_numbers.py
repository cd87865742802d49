"""The numbers of a step, traced, are Python's to the bit in double precision."""

import jax
import jax.numpy as jnp
import pytest

from cases import OPTIMIZERS
from rounds import exhaustive
from torchwise.apply import numbers_at

BETAS = [(0.3, 0.5), (0.9, 0.9), (0.9, 0.99), (0.95, 0.98), (0.7, 0.8), (0.9, 0.999)]


def check(row, chosen):
    first = {key: values[0] for key, values in row.grid.items()}
    (*_, rule) = row.ours(**{**first, **chosen}).rule.parts()
    assert rule.counts
    wide = jax.tree.map(lambda value: jnp.asarray(value, jnp.float64), rule)
    known = jax.jit(lambda step: numbers_at((rule,), step))
    data = jax.jit(lambda rule, step: numbers_at((rule,), step))
    for step in range(1, 101):
        expected = list(map(float, jax.tree.leaves(rule.numbers(step))))
        count = jnp.asarray(step, jnp.int32)
        for found in (known(count), data(wide, count)):
            assert list(map(float, jax.tree.leaves(found))) == expected


# A root of `1 - 0.5**53`; a known number minus another.
@pytest.mark.parametrize(("name", "betas"), [("adam", (0.3, 0.5)), ("radam", (0.9, 0.9))])
def test_traced_numbers_of_a_step(name, betas):
    with jax.enable_x64(True):
        check(OPTIMIZERS[name], {"betas": betas})


@exhaustive
@pytest.mark.parametrize("betas", BETAS)
@pytest.mark.parametrize("name", [name for name, row in OPTIMIZERS.items() if "betas" in row.grid])
def test_traced_numbers_of_many_betas(name, betas):
    with jax.enable_x64(True):
        check(OPTIMIZERS[name], {"betas": betas})


@exhaustive
@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.75])
@pytest.mark.parametrize("lambd", [0.1, 0.3])
def test_traced_numbers_of_asgd(lambd, alpha):
    with jax.enable_x64(True):
        check(OPTIMIZERS["asgd"], {"alpha": alpha, "lambd": lambd, "t0": 5})
