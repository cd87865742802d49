"""What the compiled program looks like: no temporaries, on every platform the right fences."""

import jax
import jax.numpy as jnp
import optax
import pytest

import shapes
import torchwise

TRANSFORMS = {
    "sgd, Nesterov and decay": torchwise.sgd(0.1, 0.9, weight_decay=1e-4, nesterov=True),
    "adagrad, decay": torchwise.adagrad(0.1, weight_decay=1e-4),
    "adagrad, lr decay": torchwise.adagrad(0.1, 0.01),
    "sgd, dampening": torchwise.sgd(0.1, 0.9, 0.1, 1e-4),
}
RESNET = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes.resnet50()]


@pytest.fixture(params=TRANSFORMS)
def transform(request):
    return TRANSFORMS[request.param]


def donated_step(transform):
    def step(params, state, grads):
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return jax.jit(step, donate_argnums=(0, 1))


def test_the_shapes_are_resnet50s():
    assert len(RESNET) == 161
    assert sum(leaf.size for leaf in RESNET) == 25_557_032


def test_temporaries_stay_under_one_percent_of_the_parameters(transform):
    state = jax.eval_shape(transform.init, RESNET)
    memory = donated_step(transform).lower(RESNET, state, RESNET).compile().memory_analysis()
    bytes_of_parameters = sum(leaf.size * 4 for leaf in RESNET)
    assert memory.temp_size_in_bytes < 0.01 * bytes_of_parameters
    assert memory.alias_size_in_bytes > 1.99 * bytes_of_parameters  # both donated in full


def test_the_fence_stands_on_cpu_alone(transform):
    params = [jax.ShapeDtypeStruct((1000,), jnp.float32)]
    state = jax.eval_shape(transform.init, params)
    traced = donated_step(transform).trace(params, state, params)
    fences = {
        platform: traced.lower(lowering_platforms=(platform,))
        .as_text()
        .count("optimization_barrier")
        for platform in ("cpu", "cuda", "tpu")
    }
    assert fences["cpu"] >= 1
    assert fences["cuda"] == fences["tpu"] == 0


def test_no_buffer_is_shared_before_donation(transform):
    params = [jnp.ones(3), jnp.ones(3), jnp.ones(())]
    state = transform.init(params)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((params, state))]
    assert len(set(pointers)) == len(pointers)
    new, _ = donated_step(transform)(params, state, [jnp.ones(3), jnp.ones(3), jnp.ones(())])
    assert jnp.all(new[0] < 1)
