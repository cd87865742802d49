"""dragon.sgd and its blocks as optax transformations: structure, data, absent gradients, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import torchwise
from torchwise import dragon

NESTEROV = "Nesterov momentum requires a momentum and zero dampening"
ALL = {"momentum": 0.9, "weight_decay": 0.01, "scale": 0.5, "clip_norm": 1.0}
VARIANTS = [
    ALL,
    ALL | {"nesterov": True},
    ALL | {"momentum_correction": True},
    ALL | {"nesterov": True, "momentum_correction": True},
    {},
]
PARAMS = {"a": jnp.array([1.0, -2.0, 3.0]), "b": {"c": jnp.ones((2, 2), jnp.bfloat16)}}
GRADS = jax.tree.map(lambda leaf: 3 * leaf, PARAMS)


def run(transforms, params=PARAMS, grads=GRADS):
    state = transforms[0].init(params)
    for transform in transforms:
        updates, state = jax.jit(transform.update)(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize("kwargs", VARIANTS)
def test_state_and_updates_keep_shape_and_type(kwargs):
    transform = dragon.sgd(0.1, **kwargs)
    before = transform.init(PARAMS)
    updates, after = jax.eval_shape(transform.update, GRADS, before, PARAMS)
    assert jax.eval_shape(lambda: before) == after
    assert updates == jax.eval_shape(lambda: PARAMS)


@pytest.mark.parametrize("kwargs", VARIANTS)
def test_a_changing_rate_is_traced_once(kwargs):
    traces = []

    @jax.jit
    def step(lr, state, params):
        traces.append(lr)
        transform = dragon.sgd(lr, **kwargs)
        updates, state = transform.update(GRADS, state, params)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, dragon.sgd(0.1, **kwargs).init(PARAMS)
    lrs = [0.1, 0.0, 0.2, 0.05]
    for lr in lrs:
        params, state = step(jnp.asarray(lr), state, params)
    assert len(traces) == 1
    expected, _ = run([dragon.sgd(lr, **kwargs) for lr in lrs])
    np.testing.assert_allclose(params["a"], expected["a"], rtol=1e-6)


@pytest.mark.parametrize("kwargs", VARIANTS)
def test_a_schedule_gives_the_rates_of_its_counts(kwargs):
    lrs = [0.0, 0.2, 0.1, 0.1]
    by_schedule, _ = run([dragon.sgd(lambda count: jnp.array(lrs)[count], **kwargs)] * 4)
    by_number, _ = run([dragon.sgd(jnp.asarray(lr), **kwargs) for lr in lrs])
    jax.tree.map(np.testing.assert_array_equal, by_schedule, by_number)


@pytest.mark.parametrize("kwargs", VARIANTS)
def test_an_absent_gradient_leaves_parameter_and_state(kwargs):
    transform = dragon.sgd(0.1, **kwargs)
    params, state = run([transform] * 2)
    grads = {"a": None, "b": {"c": GRADS["b"]["c"]}}
    updates, new_state = transform.update(grads, state, params)
    new_params = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(new_params["a"], params["a"])
    assert np.any(new_params["b"]["c"] != params["b"]["c"])
    if "momentum" in kwargs:
        for old, new in zip(state.states[-1], new_state.states[-1]):
            np.testing.assert_array_equal(new["a"], old["a"])


@pytest.mark.parametrize("kwargs", VARIANTS)
def test_a_step_is_an_update_that_is_applied(kwargs):
    transform = dragon.sgd(0.1, **kwargs)
    params, grads = PARAMS["a"], GRADS["a"]
    state = transform.init(params)
    step = jax.jit(lambda params, state: transform.step(grads, state, params))

    @jax.jit
    def update(params, state):
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(3):
        expected = update(params, state)
        params, state = step(params, state)
        jax.tree.map(np.testing.assert_array_equal, (params, state), expected)


def test_a_skipped_parameter_is_corrected_from_its_own_last_rate():
    transforms = [dragon.sgd(lr, 0.5, momentum_correction=True) for lr in (0.1, 0.2, 0.4)]
    params = jnp.zeros(1)
    state = transforms[0].init(params)
    for transform, grad in zip(transforms, (jnp.ones(1), None, jnp.ones(1))):
        updates, state = transform.update(grad, state, params)
    np.testing.assert_allclose(updates, [-0.4 * 1.5], rtol=1e-6)


def test_it_composes_with_optax():
    ours = dragon.sgd(0.1, 0.9, scale=0.5)
    chained, _ = run([optax.chain(optax.scale(0.5), dragon.sgd(0.1, 0.9))] * 3)
    quarter = dragon.sgd(0.1, 0.9, scale=0.25)
    sums = optax.MultiSteps(quarter, 2, use_grad_mean=False).gradient_transformation()
    with jax.numpy_dtype_promotion("standard"):  # MultiSteps mixes types
        twice, _ = run([sums] * 6)
    alone, _ = run([ours] * 3)
    jax.tree.map(np.testing.assert_array_equal, chained, alone)
    np.testing.assert_allclose(twice["a"], alone["a"], rtol=1e-6)


def test_it_is_the_chain_of_its_public_blocks():
    blocks = torchwise.chain(
        torchwise.scale(0.5),
        torchwise.clip_each_by_norm(1.0),
        torchwise.add_decayed_weights(0.01),
        dragon.trace_with_lr(0.1, 0.9),
    )
    whole = dragon.sgd(0.1, **ALL)
    assert jax.tree.structure(blocks.parts) == jax.tree.structure(whole.parts)
    jax.tree.map(np.testing.assert_array_equal, run([blocks] * 3), run([whole] * 3))


def test_terms_without_effect_are_left_out_and_arrays_are_data():
    assert len(dragon.sgd(0.1).parts) == 1
    zero, one = jnp.zeros(()), jnp.ones(())
    data = dragon.sgd(0.1, zero, zero, zero, scale=one, clip_norm=zero)
    assert len(data.parts) == 4
    jax.tree.map(np.testing.assert_array_equal, run([data] * 3)[0], run([dragon.sgd(0.1)] * 3)[0])


def test_a_negative_clip_norm_does_not_clip():
    negative, _ = run([dragon.sgd(0.1, 0.9, clip_norm=-1.0)] * 3)
    without, _ = run([dragon.sgd(0.1, 0.9)] * 3)
    jax.tree.map(np.testing.assert_array_equal, negative, without)


def test_a_scaled_product_is_rounded_before_it_is_added():
    param, grad = np.float32(1.0), np.float32(1 / 3)
    transform = torchwise.chain(torchwise.scale(0.1))

    @jax.jit
    def step(grad, param):
        updates, _ = transform.update(grad, transform.init(param), param)
        return optax.apply_updates(param, updates)

    for value in np.linspace(0.5, 1.5, 50, dtype=np.float32):
        expected = param + np.float32(0.1) * (grad * value)
        assert step(jnp.asarray(grad * value), jnp.asarray(param)) == expected


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"lr": 0.1, "momentum": -0.5}, "Invalid momentum value: -0.5"),
        ({"lr": 0.1, "weight_decay": -0.5}, "Invalid weight_decay value: -0.5"),
        ({"lr": 0.1, "nesterov": True}, NESTEROV),
        ({"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "nesterov": True}, NESTEROV),
    ],
)
def test_invalid_hyperparameters_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        dragon.sgd(**kwargs)


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_correction_in_a_loop_on_devices_that_differ(nesterov):
    transform = dragon.sgd(
        lambda count: jnp.where(count < 2, 0.5, 0.25),
        0.9,
        nesterov=nesterov,
        momentum_correction=True,
    )
    grads = jnp.arange(12.0).reshape(4, 3)

    def run(param, grads):
        def body(carry, grad):
            param, state = carry
            return transform.step(grad, state, param), None

        return jax.lax.scan(body, (param, transform.init(param)), grads)[0][0]

    def on_one_device(param, grads):
        return run(jax.lax.pcast(param, "rows", to="varying"), grads)

    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("rows")
    sharded = jax.shard_map(
        on_one_device, mesh=mesh, in_specs=(jax.sharding.PartitionSpec(), spec), out_specs=spec
    )
    param = jnp.ones(3)
    np.testing.assert_array_equal(jax.jit(sharded)(param, grads), jax.jit(run)(param, grads))
