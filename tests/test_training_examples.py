"""The examples that train: what each of them says it shows."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import torchwise
from distance import ulps_apart
from torchwise import schedules

FOLDER = Path(__file__).parent.parent / "examples"
SHORT = ["--width=16", "--layers=1", "--context=16", "--batch=4", "--steps=20"]


def example(name):
    return SimpleNamespace(**runpy.run_path(str(FOLDER / f"{name}.py")))


@pytest.fixture(scope="module")
def sweep():
    return example("lr_sweep")


@pytest.mark.slow
def test_a_lane_is_a_run_alone_but_for_the_order_of_sums(sweep):
    rates = jnp.array(sweep.RATES)
    train = jax.jit(sweep.train, static_argnums=1)
    lanes = jax.jit(jax.vmap(lambda rate: sweep.train(rate, 12)))(rates)
    # XLA adds up the matrix products and the means of all lanes in another order.
    assert ulps_apart(lanes[4], train(rates[4], 12)) <= 8
    assert len({float(losses[-1]) for losses in lanes}) == len(sweep.RATES)


def test_with_the_same_gradients_a_lane_has_the_bits_of_the_rate_alone(sweep):
    numbers = np.random.default_rng(0)
    param, grads = numbers.normal(size=100), numbers.normal(size=(12, 100))

    @jax.jit
    def run(rate, param, grads):
        transform = torchwise.adamw(lr=schedules.linear(rate, 0.1, total_iters=10))

        def step(carry, grad):
            return transform.step(grad, carry[1], carry[0]), None

        return jax.lax.scan(step, (param, transform.init(param)), grads)[0][0]

    given = jnp.asarray(param, jnp.float32), jnp.asarray(grads, jnp.float32)
    rates = jnp.array(sweep.RATES)
    lanes = jax.vmap(run, in_axes=(0, None, None))(rates, *given)
    for lane, rate in zip(lanes, rates):
        assert np.array_equal(lane, run(rate, *given))
        assert not np.array_equal(lane, given[0])


def test_the_best_rate_is_found(sweep, capsys):
    best = sweep.main(["--steps", "50"])
    printed = re.findall(r"lr (\S+) +loss (\S+)", capsys.readouterr().out)
    losses = {float(rate): float(loss) for rate, loss in printed}
    assert list(losses) == sweep.RATES
    assert best == min(losses, key=losses.__getitem__)
    assert losses[best] < 0.1 * losses[1.0]


@pytest.fixture(scope="module")
def learning():
    return example("meta_learning")


def test_the_gradient_through_five_steps_is_that_of_finite_differences(learning):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        start = {"params": [(jnp.ones((1, 1)), jnp.ones(1))], "log_rate": jnp.log(0.02)}
        numbers, restore = jax.flatten_util.ravel_pytree(start)
        key = jax.random.key(3)

        def of_numbers(numbers):
            return learning.adapted_loss(restore(numbers), key)

        many = jax.jit(jax.vmap(of_numbers))
        moves = 1e-5 * jnp.eye(3)
        measured = (many(numbers + moves) - many(numbers - moves)) / 2e-5
        gradient = jax.jit(jax.grad(of_numbers))(numbers)
    assert gradient.dtype == jnp.float64
    assert np.all(np.abs(gradient) > 1e-3)
    np.testing.assert_allclose(gradient, measured, rtol=1e-7)


@pytest.mark.slow
def test_learned_parameters_adapt_better(learning):
    assert learning.main(["--steps", "300"]) < 0.4


@pytest.mark.slow
def test_state_is_in_shares_and_the_result_is_that_of_one_device():
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    environment.pop("XLA_FLAGS", None)
    run = subprocess.run(
        [sys.executable, "-W", "error", str(FOLDER / "sharded.py"), "--steps", "3"],
        env=environment,
        capture_output=True,
        check=False,
        text=True,
        timeout=200,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert "on 8 device(s): loss" in run.stdout
    assert "on 1 device(s): loss" in run.stdout
    assert re.search(r"momentum .* spec=P\w*\('shares',\)", run.stdout)
    assert "on each device: (64, 512)" in run.stdout
    distance = float(re.search(r"from one device: (\S+)", run.stdout)[1])
    assert distance < 1e-6  # of weights below 1: sums over the batch have another order


def test_one_device_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))  # which it changes
    sharded = example("sharded")
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    with pytest.raises(SystemExit, match="JAX_PLATFORMS=cpu"):
        sharded.main([])


@pytest.fixture(scope="module")
def gpt():
    return example("small_gpt")


def test_embeddings_biases_and_norms_do_not_decay(gpt):
    shapes = jax.eval_shape(lambda key: gpt.initialize(key, 16, 1, 16), jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    transform = gpt.optimizer(params, 0.1, 100)
    written = torchwise.to_state_dict(transform, transform.init(params), params)
    decayed = {group["weight_decay"]: group["param_names"] for group in written["param_groups"]}
    layers = ["attention", "mixed", "hidden", "output"]
    assert sorted(decayed[0.1]) == sorted(f"blocks.0.{layer}.weight" for layer in layers)
    assert {"embedding.letter", "norm.weight", "blocks.0.mixed.bias"} < {*decayed[0.0]}
    assert len(decayed[0.1]) + len(decayed[0.0]) == len(jax.tree.leaves(params))


@pytest.mark.slow
def test_a_run_that_is_resumed_has_the_bits_of_one_that_did_not_stop(gpt, tmp_path):
    whole, parts = tmp_path / "whole.pt", tmp_path / "parts.pt"
    loss = gpt.main([*SHORT, "--checkpoint", str(whole)])
    early = gpt.main([*SHORT, "--checkpoint", str(parts), "--stop", "10"])
    halfway = parts.read_bytes()
    resumed = gpt.main([*SHORT, "--checkpoint", str(parts), "--resume"])
    assert resumed == loss < early < np.log(128)
    assert parts.read_bytes() == whole.read_bytes() != halfway

    saved = torch.load(whole, weights_only=True)
    names = [name for group in saved["optimizer"]["param_groups"] for name in group["params"]]
    assert sorted(names) == list(range(len(saved["model"])))
    groups = [group["param_names"] for group in saved["optimizer"]["param_groups"]]
    theirs = torch.optim.AdamW(
        [{"params": [(name, saved["model"][name]) for name in group]} for group in groups]
    )
    theirs.load_state_dict(saved["optimizer"])
    assert [group["weight_decay"] for group in theirs.param_groups] == [0.0, 0.1]
    assert saved["step"] == saved["average"]["n"] == 20
