"""Micro batches add up to what Dragon's and torch's accumulation hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import torchwise

RNG = np.random.default_rng(0)
BATCH = {
    "x": jnp.asarray(RNG.standard_normal((12, 5)), jnp.float32),
    "y": [jnp.asarray(RNG.standard_normal(12), jnp.float32)],
}
WEIGHT = jnp.asarray(RNG.standard_normal(5), jnp.float32)


def loss(weight, batch, power=2):
    return jnp.mean((batch["x"] @ weight - batch["y"][0]) ** power)


value_and_grad = jax.value_and_grad(loss)


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_the_mean_is_that_of_the_whole_batch(count):
    step = jax.jit(torchwise.accumulate_gradients(value_and_grad, count, "mean"))
    for ours, whole in zip(step(WEIGHT, BATCH), value_and_grad(WEIGHT, BATCH)):
        np.testing.assert_allclose(ours, whole, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_the_sum_is_torchs_backward_after_backward(count):
    step = jax.jit(torchwise.accumulate_gradients(value_and_grad, count))
    value, grad = step(WEIGHT, BATCH)
    weight = torch.nn.Parameter(torch.tensor(np.asarray(WEIGHT)))
    x, y = (torch.tensor(np.asarray(leaf)) for leaf in jax.tree.leaves(BATCH))
    total = 0.0
    for rows, targets in zip(x.chunk(count), y.chunk(count)):
        part = torch.mean((rows @ weight - targets) ** 2)
        part.backward()
        total += part.item()
    np.testing.assert_allclose(value, total, rtol=1e-6)
    np.testing.assert_allclose(grad, weight.grad.numpy(), rtol=1e-5)


def test_micro_batches_are_added_one_after_the_other():
    step = jax.jit(torchwise.accumulate_gradients(jax.grad(loss), 3))
    expected = sum(
        np.asarray(
            jax.jit(jax.grad(loss))(
                WEIGHT, jax.tree.map(lambda a, i=i: a[4 * i : 4 * i + 4], BATCH)
            )
        )
        for i in range(3)
    )
    np.testing.assert_allclose(step(WEIGHT, BATCH), expected, rtol=1e-6)


def test_further_arguments_auxiliary_values_and_absent_gradients_pass():
    def function(params, batch, power):
        value, grad = value_and_grad(params["w"], batch, power)
        return (value, {"rows": jnp.asarray(len(batch["x"]))}), {"w": grad, "frozen": None}

    step = torchwise.accumulate_gradients(function, 4)
    (value, aux), grads = step({"w": WEIGHT, "frozen": 1}, BATCH, 4)
    assert value > 0
    assert aux["rows"] == 12
    assert grads["frozen"] is None
    assert grads["w"].dtype == WEIGHT.dtype


def test_keys_in_the_batch_differ_by_micro_batch():
    def noise(params, batch):
        return params + jax.random.normal(batch["key"][0])

    keys = jax.random.split(jax.random.key(0), 3)
    total = torchwise.accumulate_gradients(noise, 3)(jnp.zeros(()), {"key": keys})
    np.testing.assert_allclose(total, sum(jax.random.normal(key) for key in keys), rtol=1e-6)


def test_a_sum_of_minus_zeros_is_minus_zero():
    step = torchwise.accumulate_gradients(lambda params, batch: params, 2)
    assert np.signbit(step(jnp.asarray(-0.0), jnp.ones(2)))


def test_the_program_holds_one_micro_batch_however_many_there_are():
    def lines(count):
        step = jax.jit(torchwise.accumulate_gradients(value_and_grad, count))
        return len(step.lower(WEIGHT, BATCH).as_text().splitlines())

    assert lines(12) == lines(2)


def test_arrays_that_cannot_be_cut_are_named():
    step = torchwise.accumulate_gradients(value_and_grad, 5)
    batch = {"x": jnp.ones((10, 2)), "y": [jnp.ones(12)], "z": jnp.ones(())}
    message = r"into 5 equal micro batches of batch\['y'\]\[0\] of shape \(12,\), batch\['z'\] of"
    with pytest.raises(ValueError, match=message):
        step(WEIGHT, batch)
    with pytest.raises(ValueError, match="a batch without arrays"):
        step(WEIGHT, {})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, "num_micro_batches must be at least 1, but is 0"),
        ((1.5,), TypeError, "integer"),
        ((2, "max"), ValueError, "reduction must be 'sum' or 'mean', but is 'max'"),
    ],
)
def test_invalid_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        torchwise.accumulate_gradients(value_and_grad, *arguments)


def test_gradients_of_integers_have_nothing_to_add():
    params = {"w": WEIGHT, "n": jnp.arange(2)}
    whole = jax.grad(lambda params, batch: loss(params["w"], batch), allow_int=True)
    grads = jax.jit(torchwise.accumulate_gradients(whole, 3, "mean"))(params, BATCH)
    assert grads["n"].dtype == jax.dtypes.float0
    assert grads["n"].shape == (2,)
    np.testing.assert_allclose(grads["w"], jax.grad(loss)(WEIGHT, BATCH), rtol=1e-5)


@pytest.mark.parametrize("varies", [False, True])
def test_sums_inside_of_shard_map(varies):
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(AxisType.Auto,))
    whole, row = PartitionSpec(), PartitionSpec("rows")
    accumulated = torchwise.accumulate_gradients(value_and_grad, 3, "mean")

    def step(weight, batch):
        if varies:
            weight = lax.pcast(weight, "rows", to="varying")
        value, grad = accumulated(weight, batch)
        return lax.pmean(value, "rows"), lax.pmean(grad, "rows") if varies else grad

    sharded = jax.shard_map(step, mesh=mesh, in_specs=(whole, row), out_specs=whole)
    for ours, expected in zip(jax.jit(sharded)(WEIGHT, BATCH), accumulated(WEIGHT, BATCH)):
        np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.parametrize("of_weight", [PartitionSpec(), PartitionSpec("x")])
@pytest.mark.parametrize(
    "of_batch", [PartitionSpec(), PartitionSpec("x"), PartitionSpec(("x", "y")), PartitionSpec("y")]
)
def test_sums_on_explicit_devices(of_weight, of_batch):
    mesh = jax.make_mesh((1, 1), ("x", "y"), axis_types=(AxisType.Explicit,) * 2)
    accumulated = torchwise.accumulate_gradients(jax.value_and_grad(outer_loss), 3, "mean")
    weight, batch = jnp.stack([WEIGHT] * 2), BATCH["x"]
    expected = accumulated(weight, batch)
    with jax.set_mesh(mesh):
        placed = (
            jax.device_put(weight, NamedSharding(mesh, of_weight)),
            jax.device_put(batch, NamedSharding(mesh, of_batch)),
        )
        for step in (accumulated, jax.jit(accumulated)):
            value, grad = step(*placed)
            assert jax.typeof(grad).sharding.spec == jax.typeof(placed[0]).sharding.spec
            np.testing.assert_allclose(value, expected[0], rtol=1e-6)
            np.testing.assert_allclose(grad, expected[1], rtol=1e-6)


def outer_loss(weight, batch):
    whole = (
        jax.reshard(weight, PartitionSpec()) if jax.typeof(weight).sharding.mesh.shape else weight
    )
    return jnp.mean((batch @ whole.T) ** 2)
