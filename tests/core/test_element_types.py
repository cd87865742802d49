"""Types of parameters that cannot move."""

import jax.numpy as jnp
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
