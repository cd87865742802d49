"""dragon.sgd against Dragon's formulas in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dragon_oracle import Options, axpy, step, ulps
from dragon_runs import DTYPES, SIZE, advance, gradients, rates, start

import torchwise
from torchwise import dragon


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


# What a step may differ by from the formula with every operation rounded, in ulps of the largest
# number it adds. Without momentum `x - lr * g` is one FMA, as in torch's SGD; Nesterov's move is
# computed without the old buffer, see test_nesterov_rounds_less_than_the_formula.
@pytest.mark.parametrize(
    ("momentum", "nesterov", "correction", "allowed"),
    [
        (0.0, False, False, 1),
        (0.9, False, False, 0),
        (0.9, False, True, 0),
        (0.9, True, False, 2),
        (0.9, True, True, 2),
    ],
)
@pytest.mark.parametrize(
    ("weight_decay", "scale", "clip_norm"),
    list(itertools.product((0.0, 0.02), (1.0, 0.5), (0.0, 2.0))),
)
def test_every_step_is_dragons(
    momentum, nesterov, correction, allowed, weight_decay, scale, clip_norm
):
    lr_mult, decay_mult = 0.5, 3.0
    fixed = (momentum, weight_decay * decay_mult, nesterov, scale, clip_norm)
    steps = [Options(rate * lr_mult, *fixed) for rate in rates(1)]
    params = start()
    state = build(steps[0], correction).init(params)
    last_lr = steps[0].lr
    for options, values in zip(steps, gradients(2, coarse=True)):
        grads = {name: values.astype(dtype) for name, dtype in DTYPES.items()}
        new_params, new_state = advance(build(options, correction), grads, state, params)
        for name, dtype in DTYPES.items():
            ratio = dtype(options.lr) / dtype(last_lr) if correction else 1
            x = np.asarray(params[name])
            m = np.asarray(state.states[-1].velocity[name]) if momentum else np.zeros_like(x)
            x, m, terms = step(x, grads[name], m, options, ratio)
            assert ulps(np.asarray(new_params[name]), x, terms) <= allowed
            if momentum:
                np.testing.assert_array_equal(new_state.states[-1].velocity[name], m)
        params, state, last_lr = new_params, new_state, options.lr


def build(options, correction):
    return dragon.sgd(**options._asdict(), momentum_correction=correction)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_half_types_are_rounded_after_every_operation(name, nesterov):
    half, wide = jnp.dtype(name).type, np.float32
    momentum, lr, alpha = wide(0.9), wide(0.1), wide(half(0.9))
    x = start()["float32"].astype(half)
    m = np.zeros_like(x)
    transform = dragon.sgd(0.1, 0.9, nesterov=nesterov)
    params, state = jnp.asarray(x), transform.init(jnp.asarray(x))
    for values in gradients(12)[:20]:
        g = values.astype(half)
        params, state = advance(transform, jnp.asarray(g), state, params)
        faded, added = (wide(m) * momentum).astype(half), (wide(g) * lr).astype(half)
        m = (wide(faded) + wide(added)).astype(half)
        ahead = axpy(alpha, wide(m), wide(added)).astype(half) if nesterov else m
        x = (wide(x) - wide(ahead)).astype(half)
        np.testing.assert_array_equal(params, x)
        np.testing.assert_array_equal(state.states[0].velocity, m)


@pytest.mark.parametrize("name", DTYPES)
def test_nesterov_rounds_less_than_the_formula(name):
    """`mu * m + lr * g` is `(1 + mu) * m - mu * m_old`, and nearer to the real number meant."""
    number, wide = DTYPES[name], np.longdouble
    momentum = number(0.9)
    ours_squared = formula_squared = 0.0
    m, x = np.zeros(SIZE, number), np.zeros(SIZE, number)
    state = dragon.sgd(0.1, 0.9, nesterov=True).init(x)
    for rate, values in zip(rates(3), gradients(4)):
        g, lr = values.astype(number), number(rate)
        # from zero, the new parameter is the move
        ours, state = advance(dragon.sgd(rate, 0.9, nesterov=True), g, state, x)
        new = momentum * m + lr * g
        formula = momentum * m - (number(1) + momentum) * new
        exact_new = wide(momentum) * m + wide(lr) * g
        exact = wide(momentum) * m - (1 + wide(momentum)) * exact_new
        ours_squared += float(np.sum((np.asarray(ours) - exact) ** 2))
        formula_squared += float(np.sum((formula - exact) ** 2))
        m = new
    assert ours_squared < 0.8 * formula_squared


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("size", [1, 1003, 100_000])
def test_clipping_is_within_two_ulp_of_the_exact_norms(name, size):
    """The norm's sum has no given order; quotient and product are rounded as well."""
    g = np.random.default_rng(5).standard_normal(size).astype(DTYPES[name])
    norm = np.sqrt(np.sum(np.square(g, dtype=np.longdouble)))
    bound = float(norm) / 3
    clipped = clip(bound, jnp.asarray(g))
    assert ulps(clipped, g * (bound / norm), np.abs(clipped)) <= 2


@pytest.mark.parametrize("bound", [5.0, 2.5, 0.0, -1.0])
@pytest.mark.parametrize("convert", [float, jnp.asarray], ids=["number", "array"])
def test_clipping_needs_a_norm_above_a_bound_above_zero(bound, convert):
    expected = [1.5, 2.0] if bound == 2.5 else [3.0, 4.0]
    clipped = clip(convert(bound), jnp.array([3.0, 4.0], jnp.float32))
    np.testing.assert_array_equal(clipped, np.float32(expected))


def test_a_norm_equal_to_the_bound_does_not_clip():
    infinite = jnp.array([jnp.inf, 1.0], jnp.float32)
    np.testing.assert_array_equal(clip(jnp.inf, infinite), infinite)


@pytest.mark.parametrize(("dtype", "element"), [("bfloat16", 3.0), ("complex64", 3.0j)])
def test_clipping_takes_half_and_complex_types(dtype, element):
    clipped = clip(2.5, jnp.array([element, 4.0], dtype))
    assert clipped.dtype == dtype
    np.testing.assert_array_equal(clipped, np.array([element / 2, 2.0], clipped.dtype))


def clip(bound, grad):
    transform = torchwise.clip_each_by_norm(bound)
    updates, _ = jax.jit(transform.update)(grad, transform.init(grad), grad)
    return np.asarray(updates)
