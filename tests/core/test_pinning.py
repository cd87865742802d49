"""What hides a value from the compiler changes nothing about it, under any transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import torchwise
from distance import same_bits
from torchwise.pinning import beside, pin, sharing, zeros_for

VALUES = np.array([[0.0, -0.0, np.inf], [-np.inf, np.nan, 1e-30], [1.5, -2.0, 3e38]], np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_every_value_stays_what_it_is(dtype):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(VALUES).astype(dtype)
        assert same_bits(jax.jit(pin)(x), x)
        for other in (x[::-1], jnp.full_like(x, jnp.nan)):
            assert same_bits(jax.jit(beside)(x, other), x)
        assert same_bits(jax.jit(lambda x: pin(x[0, 0]))(x), x[0, 0])


@pytest.mark.parametrize("axes", [(0, 0), (1, 0), (None, 1), (1, None), (None, 0)], ids=str)
@pytest.mark.parametrize("given", [False, True])
def test_any_axis_may_be_mapped(axes, given):
    def read(x, other):
        with sharing(zeros_for([x, other]), given=given):
            return beside(x, other), pin(x)

    def plain(x, other):
        return x + 0 * other, x

    x, other = jnp.arange(9.0).reshape(3, 3), jnp.ones((3, 3))
    given_x = x if axes[0] is not None else x[0]
    given_other = other if axes[1] is not None else other[0]
    arrays = given_x, given_other
    for ours, expected in zip(
        jax.jit(jax.vmap(read, axes))(*arrays), jax.vmap(plain, axes)(*arrays), strict=True
    ):
        assert same_bits(ours, expected)
    twice = jax.jit(jax.vmap(jax.vmap(read, (0, None)), (None, 0)))(x[0], other[0])
    assert same_bits(twice[0], jnp.tile(x[0], (3, 1)))


def test_the_derivative_is_one():
    def loss(x, other):
        return jnp.sum(pin(x) * 3 + beside(x, other) * 2)

    x = jnp.ones(4)
    slopes = jax.jit(jax.grad(loss, argnums=(0, 1)))(x, x)
    assert same_bits(slopes[0], 5 * x)
    assert same_bits(slopes[1], 0 * x)
    assert jax.jvp(loss, (x, x), (x, x))[1] == 20


def test_sizes_may_be_unknown():
    step = jax.jit(lambda x, y: torchwise.rounding.add(torchwise.rounding.mul(x, 0.3), y))
    unknown = jax.ShapeDtypeStruct(export.symbolic_shape("n"), jnp.float32)
    exported = export.export(step)(unknown, unknown)
    x = jnp.asarray(np.random.default_rng(0).normal(size=1003), jnp.float32)
    assert same_bits(exported.call(x, x[::-1]), step(x, x[::-1]))


@pytest.mark.parametrize("whole_program", [False, True])
def test_a_program_makes_one_zero(whole_program):
    transform = torchwise.adamw(lr=0.1, weight_decay=0.1)
    params = [jnp.ones(size) for size in (1, 3, 3, 300_000, 300_000)]
    state = transform.init(params)
    program = jax.jit(
        lambda params, state, grads: transform.step(
            grads, state, params, whole_program=whole_program
        )
    ).lower(params, state, params)
    assert program.as_text().count('"stablehlo.sort"') == 1


def test_a_value_may_be_pinned_in_a_branch_and_behind_it():
    @jax.jit
    def program(x):
        with sharing(zeros_for([x])):
            chosen = jax.lax.cond(x[0] > 0, lambda: pin(x) * 2, lambda: pin(x))
            return chosen + pin(x)

    assert same_bits(program(jnp.ones(3)), jnp.full(3, 3.0))


def test_no_tracer_is_kept():
    transform = torchwise.sgd(lr=0.1, momentum=0.9)
    params = [jnp.ones(3)]
    with jax.checking_leaks():
        stepped, _ = jax.jit(transform.step)(params, transform.init(params), params)
    assert same_bits(stepped[0], params[0] - jnp.float32(0.1))


@pytest.mark.parametrize("whole_program", [False, True])
def test_lanes_of_rates_have_the_bits_of_each_rate(whole_program):
    rng = np.random.default_rng(0)
    param, grad = (jnp.asarray(rng.normal(size=1003), jnp.float32) for _ in range(2))
    rates = jnp.asarray([0.003, 0.1, 1.0])

    def stepped(rate, param, grad):
        transform = torchwise.adamw(lr=rate, weight_decay=0.1)
        state = transform.init(param)
        for _ in range(3):
            param, state = transform.step(grad, state, param, whole_program=whole_program)
        return param

    lanes = jax.jit(jax.vmap(stepped, (0, None, None)))(rates, param, grad)
    for lane, rate in zip(lanes, rates, strict=True):
        assert same_bits(lane, jax.jit(stepped)(rate, param, grad))
        assert not same_bits(lane, param)
