"""Trees, missing gradients, first steps, errors that name the culprit."""

import copy
import dataclasses
import operator
import pickle
from typing import NamedTuple

import equinox as eqx
import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

import torchwise
from distance import same_bits
from functional_run import FunctionalRun, draw, updating
from torch_oracle import TorchRun, correctly_rounded_sqrt

FULL_SGD = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}


# XLA flushes subnormal numbers to zero on CPU and torch does not: keep products away from them.
NUMBERS = st.one_of(st.just(0.0), st.floats(1e-6, 2))


class Pair(NamedTuple):
    left: jax.Array
    right: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    weight: jax.Array
    bias: jax.Array


def trees():
    w, b = jnp.arange(6.0).reshape(2, 3), jnp.asarray(2.0)
    return {
        "dict": {"w": w, "b": b},
        "list": [w, [b]],
        "named tuple": Pair(w, b),
        "dataclass": Layer(w, b),
        "equinox": eqx.filter(eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(0)), eqx.is_inexact_array),
        "nnx": nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Param),
        "one array": w,
        "nothing": {},
        "empty array": jnp.zeros((0, 3)),
        "with None": {"w": w, "none": None},
    }


@pytest.mark.parametrize("name", trees())
@pytest.mark.parametrize("make", [torchwise.sgd, torchwise.adagrad])
def test_any_pytree(name, make):
    params = trees()[name]
    transform = make(0.5, weight_decay=0.1)
    state = transform.init(params)
    grads = jax.tree.map(jnp.ones_like, params)
    new, new_state = updating(transform)(params, state, grads)
    assert jax.tree.structure(new) == jax.tree.structure(params)
    assert jax.tree.structure(new_state) == jax.tree.structure(state)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: np.all(a < b), new, params)))


@pytest.mark.parametrize("missing", [None, optax.MaskedNode(), np.zeros((2, 3), jax.dtypes.float0)])
@pytest.mark.parametrize("make", [torchwise.sgd, torchwise.adagrad])
def test_a_missing_gradient_leaves_everything(make, missing):
    hyperparameters = {"momentum": 0.9, "dampening": 0.5} if make is torchwise.sgd else {}
    transform = torchwise.chain(
        make(0.5, weight_decay=0.1, **hyperparameters), per_parameter_steps=True
    )
    params = {"a": -jnp.zeros((2, 3)), "b": jnp.ones(2)}
    state = transform.init(params)
    step = updating(transform)
    _, state = step(params, state, jax.tree.map(jnp.ones_like, params))
    new, new_state = step(params, state, {"a": None, "b": jnp.ones(2)})
    updates, _ = transform.update({"a": missing, "b": jnp.ones(2)}, state, params)
    assert same_bits(new["a"], params["a"])
    assert same_bits(optax.apply_updates(params, updates)["a"], params["a"])
    assert new_state.step == {"a": 1, "b": 2}
    for old, fresh in zip(state.states, new_state.states):
        for before, after in zip(old, fresh):
            assert same_bits(before["a"], after["a"])
            assert not same_bits(before["b"], after["b"])


@pytest.mark.slow
@settings(max_examples=30)
@given(
    missing=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=5),
    lr=NUMBERS,
    momentum=st.sampled_from([0.0, 0.1, 0.9, 1.3]),
    dampening=st.one_of(NUMBERS, NUMBERS.map(operator.neg)),
    weight_decay=NUMBERS,
    nesterov=st.booleans(),
    maximize=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_random_sgd_is_torchs_to_the_bit(
    missing, lr, momentum, dampening, weight_decay, nesterov, maximize, seed, dtype
):
    if nesterov and momentum:
        dampening = 0.0
    hyperparameters = {
        "lr": lr,
        "momentum": momentum,
        "dampening": dampening,
        "weight_decay": weight_decay,
        "nesterov": nesterov and momentum > 0,
        "maximize": maximize,
    }
    with jax.enable_x64(dtype == "float64"):
        rng = np.random.default_rng(seed)
        shapes = [(33,), (2, 3), ()]
        params = draw(rng, shapes, dtype)
        transform = torchwise.chain(torchwise.sgd(**hyperparameters), per_parameter_steps=True)
        ours = FunctionalRun(transform, params)
        theirs = TorchRun(torch.optim.SGD, params, **hyperparameters)
        for pattern in missing:
            grads = [
                None if absent else np.where(rng.random(grad.shape) < 0.1, -0.0, grad).astype(dtype)
                for grad, absent in zip(draw(rng, shapes, dtype), pattern)
            ]
            ours.step(grads)
            theirs.step(grads)
        for our, their in zip(ours.params, theirs.params):
            assert same_bits(our, their)
        for our, their in zip(
            ours.states("momentum_buffer") or [], theirs.states("momentum_buffer")
        ):
            assert their is None or same_bits(our, their)


@pytest.mark.slow
@settings(max_examples=30)
@given(
    missing=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=5),
    lr=NUMBERS,
    lr_decay=NUMBERS,
    weight_decay=NUMBERS,
    initial_accumulator_value=NUMBERS,
    eps=st.floats(1e-12, 1e-2),
    maximize=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_random_adagrad_is_torchs_to_the_bit_with_correct_roots(
    missing, seed, dtype, **hyperparameters
):
    with jax.enable_x64(dtype == "float64"), correctly_rounded_sqrt():
        rng = np.random.default_rng(seed)
        shapes = [(33,), (2, 3), ()]
        params = draw(rng, shapes, dtype)
        transform = torchwise.chain(torchwise.adagrad(**hyperparameters), per_parameter_steps=True)
        ours = FunctionalRun(transform, params)
        theirs = TorchRun(torch.optim.Adagrad, params, **hyperparameters)
        for pattern in missing:
            grads = [
                None if absent else grad for grad, absent in zip(draw(rng, shapes, dtype), pattern)
            ]
            ours.step(grads)
            theirs.step(grads)
        for our, their in zip(ours.params, theirs.params):
            assert same_bits(our, their)
        for our, their in zip(ours.states("sum"), theirs.states("sum")):
            assert same_bits(our, their)
        assert [float(step) for step in ours.state.step] == list(map(float, theirs.states("step")))


def test_a_shared_count_refuses_a_missing_gradient():
    transform = torchwise.adagrad(0.5)
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    state = transform.init(params)
    assert state.step.shape == ()
    for call in (transform.step, transform.update):
        with pytest.raises(ValueError, match=r"no gradient for \['a'\].*per_parameter_steps=True"):
            call({"a": None, "b": params["b"]}, state, params)


def test_a_chain_without_a_rule_has_no_step():
    block, param = torchwise.trace(0.9), jnp.ones(2)
    with pytest.raises(TypeError, match="the last of a chain must be a rule"):
        block.step(param, block.init(param), param)
    with pytest.raises(TypeError, match="SGD moves the parameter and must be the last"):
        torchwise.chain(torchwise.sgd(0.1), block)


def test_a_state_of_another_transform_is_refused():
    param = jnp.ones(2)
    transform, other = torchwise.sgd(0.1, 0.9), torchwise.sgd(0.1)
    for call in (transform.step, transform.update):
        with pytest.raises(ValueError, match="not one that init"):
            call(param, other.init(param), param)


def test_the_first_buffer_keeps_the_sign_of_zero():
    transform = torchwise.trace(0.9)
    params = jnp.ones(3)
    _, state = transform.update(-jnp.zeros(3), transform.init(params), params)
    assert same_bits(state.states[0].momentum_buffer, -jnp.zeros(3))


PARAMS = {"layer": {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}}


@pytest.mark.parametrize(
    ("grads", "message"),
    [
        (
            {"layer": {"w": jnp.ones((3, 2)), "b": jnp.ones(3)}},
            r"\['layer'\]\['w'\].*shape \(3, 2\), the parameter \(2, 3\)",
        ),
        (
            {"layer": {"w": jnp.ones((2, 3))}},
            r"\['layer'\]\['b'\]: no gradient for a parameter of shape \(3,\)",
        ),
        (
            {"layer": {"w": jnp.ones((2, 3)), "b": jnp.ones(3), "c": jnp.ones(4)}},
            r"\['layer'\]\['c'\]: a gradient of shape \(4,\), but no parameter",
        ),
        ({"layer": {"w": jnp.ones((2, 3)), "b": "text"}}, r"\['b'\].*a str, no array"),
        ({"layer": {"w": jnp.ones((2, 3)), "b": [jnp.ones(3)]}}, r"\['b'\].*is a list"),
        ({"layer": {"w": jnp.ones((2, 3)), "b": jnp.ones(3, jnp.complex64)}}, r"\['b'\].*complex"),
        ([PARAMS["layer"]], "structure"),
    ],
)
def test_bad_trees_are_named(grads, message):
    transform = torchwise.sgd(0.1)
    with pytest.raises(ValueError, match=message):
        transform.update(grads, transform.init(PARAMS), PARAMS)


def test_other_wrong_calls():
    transform = torchwise.sgd(**FULL_SGD)
    state = transform.init(PARAMS)
    with pytest.raises(ValueError, match=r"update\(grads, state, params\)"):
        transform.update(PARAMS, state)
    with pytest.raises(ValueError, match="state was made for other parameters"):
        transform.update(jnp.ones(3), state, jnp.ones(3))
    with pytest.raises(ValueError, match="int32 cannot be optimized"):
        transform.update(
            jnp.ones(2, jnp.int32), transform.init(jnp.ones(2)), jnp.ones(2, jnp.int32)
        )


@pytest.mark.parametrize("make", [torchwise.sgd, torchwise.adagrad])
@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
)
def test_state_has_the_parameters_type(make, dtype):
    with jax.enable_x64(dtype in ("float64", "complex128")):
        params = {"w": jnp.ones((2, 3), dtype)}
        transform = make(0.1, **({"momentum": 0.9} if make is torchwise.sgd else {}))
        before = transform.init(params)
        new, after = updating(transform)(params, before, params)
        key = "momentum_buffer" if make is torchwise.sgd else "sum"
        assert optax.tree_utils.tree_get(after, key)["w"].dtype == dtype
        assert new["w"].dtype == dtype
        assert jax.tree.map(jnp.shape, before) == jax.tree.map(jnp.shape, after)
        assert jax.tree.map(jnp.result_type, before) == jax.tree.map(jnp.result_type, after)


def test_a_chain_is_a_pytree_of_its_hyperparameters():
    transform = torchwise.sgd(lr=0.1, momentum=0.9, dampening=0.5, weight_decay=0.01)
    assert sorted(jax.tree.leaves(transform)) == [0.01, 0.1, 0.5, 0.9]
    assert isinstance(transform, optax.GradientTransformationExtraArgs)
    for again in (copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))):
        assert again.transforms == transform.transforms
    assert "lr=0.1" in repr(transform)


def test_gradients_flow_through_the_optimizer():
    """Against central differences, in float64."""
    with jax.enable_x64(True):
        target = jnp.asarray([1.0, -2.0])

        def final_loss(lr, momentum, dampening, start):
            transform = torchwise.sgd(lr, momentum, dampening, weight_decay=0.1)
            params, state = start, transform.init(start)
            for _ in range(5):
                grads = jax.grad(lambda p: jnp.sum((p - target) ** 2))(params)
                updates, state = transform.update(grads, state, params)
                params = optax.apply_updates(params, updates)
            return jnp.sum((params - target) ** 2)

        arguments = (jnp.asarray(0.01), jnp.asarray(0.9), jnp.asarray(0.2), jnp.asarray([0.5, 0.3]))
        check_grads(final_loss, arguments, order=1, modes=("fwd", "rev"), rtol=1e-5)


def test_gradients_flow_through_adagrad():
    with jax.enable_x64(True):

        def final(lr, lr_decay, eps, start):
            transform = torchwise.adagrad(lr, lr_decay, eps=eps)
            params, state = start, transform.init(start)
            for _ in range(4):
                updates, state = transform.update(2 * params, state, params)
                params = optax.apply_updates(params, updates)
            return jnp.sum(params**2)

        arguments = (
            jnp.asarray(0.1),
            jnp.asarray(0.3),
            jnp.asarray(1e-3),
            jnp.asarray([0.5, 0.3]),
        )
        check_grads(final, arguments, order=1, modes=("rev",), rtol=1e-5)


@jax.numpy_dtype_promotion("standard")  # the schedule mixes int32 and floats
def test_schedules_count_from_zero_for_each_parameter():
    transform = torchwise.chain(
        torchwise.sgd(lambda count: 0.5 / (1 + count)), per_parameter_steps=True
    )
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    state = transform.init(params)
    one = jnp.ones(1)
    first, state = transform.update({"a": one, "b": None}, state, params)
    second, state = transform.update({"a": one, "b": one}, state, params)
    assert (float(first["a"][0]), float(second["a"][0])) == (-0.5, -0.25)
    assert (float(first["b"][0]), float(second["b"][0])) == (0.0, -0.5)
