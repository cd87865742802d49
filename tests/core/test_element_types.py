"""Types of parameters that cannot move, and those that move less exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import torchwise
from torchwise import optim


@pytest.mark.parametrize("dtype", [jnp.float8_e8m0fnu, jnp.int8, jnp.bool_])
def test_a_type_without_zero_and_sign_is_refused_as_integers_are(dtype):
    param = jnp.ones(2, dtype)
    transform = torchwise.sgd(0.5)
    with pytest.raises(ValueError, match=f"of type {param.dtype} cannot be optimized"):
        transform.step({"w": param}, transform.init({"w": param}), {"w": param})
    with pytest.raises(TypeError, match=f"can be optimized, but .* is {param.dtype}"):
        optim.Parameter(param)


@pytest.mark.parametrize("dtype", [jnp.float8_e4m3fn, jnp.float8_e5m2, jnp.float8_e4m3b11fnuz])
def test_types_that_have_both_move(dtype):
    param, transform = jnp.ones(2, dtype), torchwise.sgd(0.5)
    moved, _ = transform.step(param, transform.init(param), param)
    assert moved.astype(jnp.float32).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_increments_in_half_types_are_up_to_two_ulp_away(dtype):
    generator = np.random.default_rng(0)
    size = 20_000
    param = jnp.asarray(generator.normal(size=size) * 10 ** generator.uniform(-2, 1, size), dtype)
    grad = jnp.asarray(generator.normal(size=size), dtype)
    transform = torchwise.sgd(3.0, momentum=0.9, weight_decay=0.1)
    state = transform.init(param)

    @jax.jit
    def both():
        increment, _ = transform.update(grad, state, param)
        moved, _ = transform.step(grad, state, param)
        return moved, optax.apply_updates(param, increment), increment

    def ulp(values):
        steps = np.floor(np.log2(np.maximum(np.abs(values), 2.0**-14)))
        return 2.0 ** (steps - jnp.finfo(dtype).nmant)

    stepped, updated, increment = (np.asarray(x, np.float64) for x in both())
    largest = np.max(np.abs([stepped, updated, np.asarray(param, np.float64)]), axis=0)
    away = np.abs(stepped - updated)
    assert np.max(away / ulp(largest)) == 2
    assert np.all(away <= ulp(largest) + 0.5 * ulp(increment))
