"""Equinox modules as they are: what is no array stands still, whoever filters what."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import torchwise
from cases import OPTIMIZERS
from distance import same_bits


class Model(eqx.Module):
    layer: eqx.nn.Linear
    dropout: eqx.nn.Dropout
    activation: Any
    name: str
    repeats: int
    steps: jax.Array
    key: jax.Array
    frozen: jax.Array
    nothing: None = None

    def __call__(self, x):
        return self.activation(self.layer(x)) * self.repeats


def make_model():
    layer = eqx.nn.Linear(2, 3, key=jax.random.key(0))
    dropout = eqx.nn.Dropout(0.5)
    arrays = jnp.arange(3), jax.random.key(1), jnp.ones(2)
    return Model(layer, dropout, jax.nn.relu, "relu", 2, *arrays)


MODEL = make_model()
GRADS = eqx.filter_grad(lambda model: jnp.sum(model(jnp.ones(2))))(MODEL)
GRADS = eqx.tree_at(lambda model: model.frozen, GRADS, None)
FROZEN = eqx.tree_at(lambda model: model.frozen, MODEL, None)
FILTERED = {
    "as it is": MODEL,
    "is_array": eqx.filter(MODEL, eqx.is_array),
    "is_inexact_array": eqx.filter(MODEL, eqx.is_inexact_array),
    "without what is frozen": eqx.filter(FROZEN, eqx.is_inexact_array),
}
TRANSFORMS = {
    "sgd": torchwise.sgd(0.5),
    "momentum": torchwise.sgd(0.5, momentum=0.9, weight_decay=0.1),
    "adam, per parameter": torchwise.chain(torchwise.adam(0.5), per_parameter_steps=True),
    "clipped": torchwise.chain(torchwise.clip_grad_norm(0.1), torchwise.sgd(0.5)),
}


def arrays_of(tree):
    """What moves: the layer's arrays."""
    return [tree.layer.weight, tree.layer.bias]


def assert_rest_is_the_same(model):
    assert model.dropout.p == 0.5
    assert type(model.dropout.p) is float
    assert model.dropout.inference is False
    assert model.activation is jax.nn.relu
    assert model.name == "relu"
    assert model.repeats == 2
    assert type(model.repeats) is int
    assert model.key == MODEL.key
    np.testing.assert_array_equal(model.steps, MODEL.steps)
    assert same_bits(model.frozen, MODEL.frozen)


@pytest.mark.parametrize("made_of", FILTERED)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_whole_model_moves_as_its_arrays_do(name, made_of):
    transform = TRANSFORMS[name]
    params, grads = arrays_of(MODEL), arrays_of(GRADS)
    expected, alone = transform.step(grads, transform.init(params), params)
    state = transform.init(FILTERED[made_of])
    new, after = transform.step(GRADS, state, MODEL)
    updates, again = transform.update(GRADS, state, MODEL)
    assert all(map(same_bits, arrays_of(new), expected))
    for model in (new, eqx.apply_updates(MODEL, updates)):
        assert_rest_is_the_same(model)
    assert jax.tree.structure(after) == jax.tree.structure(again) == jax.tree.structure(state)
    for ours, theirs in zip(after.states, alone.states):
        for tree, wanted in zip(ours, theirs):
            assert tree is None or all(map(same_bits, arrays_of(tree), wanted))


@pytest.mark.parametrize("passed", FILTERED)
def test_state_and_parameters_may_be_filtered_in_different_ways(passed):
    transform = TRANSFORMS["momentum"]
    expected, _ = transform.step(GRADS, transform.init(MODEL), MODEL)
    for made_of in FILTERED.values():
        new, _ = transform.step(GRADS, transform.init(made_of), FILTERED[passed])
        assert all(map(same_bits, arrays_of(new), arrays_of(expected)))
        assert jax.tree.structure(new) == jax.tree.structure(FILTERED[passed])


def test_the_calls_that_optax_takes():
    ours, theirs = torchwise.sgd(0.5, 0.9), optax.sgd(0.5, 0.9)
    filtered = FILTERED["is_inexact_array"]
    expected, _ = theirs.update(GRADS, theirs.init(filtered), MODEL)
    updates, _ = ours.update(GRADS, ours.init(filtered), MODEL)
    assert all(map(same_bits, arrays_of(updates), arrays_of(expected)))
    nones = [updates.activation, updates.name, updates.repeats, updates.key, updates.dropout.p]
    assert nones == [None] * 5
    assert_rest_is_the_same(eqx.apply_updates(MODEL, updates))


def test_what_cannot_move_may_lack_a_gradient_where_steps_are_counted_once():
    """Integers and functions are in no group of torch; frozen arrays are left out of the state."""
    transform = torchwise.adam(0.5)
    params = arrays_of(MODEL)
    expected, _ = transform.step(arrays_of(GRADS), transform.init(params), params)
    state = transform.init(FILTERED["without what is frozen"])
    new, after = transform.step(GRADS, state, MODEL)
    assert all(map(same_bits, arrays_of(new), expected))
    assert after.step == 1
    with pytest.raises(ValueError, match=r"no gradient for \.frozen, but steps"):
        transform.step(GRADS, transform.init(MODEL), MODEL)


def test_a_gradient_of_what_the_state_was_made_without_is_refused():
    grads = eqx.tree_at(lambda model: model.frozen, GRADS, jnp.ones(2), is_leaf=lambda x: x is None)
    counting = torchwise.chain(torchwise.sgd(lambda count: 0.5), per_parameter_steps=True)
    for transform in (torchwise.sgd(0.5, 0.9), counting):
        state = transform.init(FILTERED["without what is frozen"])
        with pytest.raises(ValueError, match=r"made without \.frozen.*call init with all"):
            transform.step(grads, state, MODEL)


def test_a_gradient_of_what_is_no_array_is_refused():
    grads = eqx.tree_at(lambda model: model.name, GRADS, jnp.ones(2), is_leaf=lambda x: x is None)
    transform = torchwise.sgd(0.5)
    with pytest.raises(ValueError, match=r"\.name: a parameter that is str cannot be optimized"):
        transform.step(grads, transform.init(MODEL), MODEL)


def test_two_steps_in_filter_jit():
    transform = torchwise.sgd(0.5, 0.9)

    @eqx.filter_jit
    def step(model, state):
        return transform.step(GRADS, state, model)

    model, _ = step(*step(MODEL, transform.init(eqx.filter(MODEL, eqx.is_array))))
    assert_rest_is_the_same(model)
    params, held = arrays_of(MODEL), transform.init(arrays_of(MODEL))
    for _ in range(2):
        params, held = jax.jit(transform.step)(arrays_of(GRADS), held, params)
    assert all(map(same_bits, arrays_of(model), params))


@pytest.mark.parametrize("momentum", [0, 0.9])
@pytest.mark.parametrize("groups", [1, 2])
def test_groups_take_a_whole_model(groups, momentum):
    """Without momentum no state tells whose leaf is whose: the groups do."""
    filtered = FILTERED["without what is frozen"]
    transform = torchwise.sgd(0.5, momentum)
    saved = torchwise.to_state_dict(transform, transform.init(filtered), filtered)
    (group,) = saved["param_groups"]
    names = group.pop("param_names")
    if groups == 2:  # the bias first
        order = sorted(range(2), key=lambda index: "weight" in names[index])
        saved["param_groups"] = [
            {**group, "params": [0], "param_names": [names[order[0]]], "lr": 0.125},
            {**group, "params": [1], "param_names": [names[order[1]]]},
        ]
    loaded, state = torchwise.from_state_dict(saved, filtered)
    rates = [0.5, 0.125 if groups == 2 else 0.5]
    expected = [p - lr * g for p, g, lr in zip(arrays_of(MODEL), arrays_of(GRADS), rates)]
    new, _ = loaded.step(GRADS, state, MODEL)
    assert_rest_is_the_same(new)
    updates, _ = loaded.update(GRADS, state, MODEL)
    updated = eqx.apply_updates(MODEL, updates)
    assert_rest_is_the_same(updated)
    for ours in (new, updated):
        for array, wanted in zip(arrays_of(ours), expected):
            np.testing.assert_allclose(array, wanted, rtol=1e-6)
    if groups == 2:
        ones = jnp.ones(2)
        grads = eqx.tree_at(lambda model: model.frozen, GRADS, ones, is_leaf=lambda x: x is None)
        with pytest.raises(ValueError, match=r"\.frozen has a gradient, but is in no group"):
            loaded.step(grads, state, MODEL)


def test_a_whole_model_in_optax_chain():
    transform = optax.chain(optax.clip_by_global_norm(1.0), torchwise.sgd(0.5, 0.9))
    expected, _ = transform.update(GRADS, transform.init(FROZEN), FROZEN)
    updates, _ = transform.update(GRADS, transform.init(MODEL), MODEL)
    assert all(map(same_bits, arrays_of(updates), arrays_of(expected)))
    assert_rest_is_the_same(eqx.apply_updates(MODEL, updates))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_whole_model_in_every_optimizer(optimizer):
    transform = torchwise.chain(optimizer.ours(), per_parameter_steps=True)
    params = arrays_of(MODEL)
    expected, _ = transform.step(arrays_of(GRADS), transform.init(params), params)
    for made_of in FILTERED.values():
        new, _ = transform.step(GRADS, transform.init(made_of), MODEL)
        assert all(map(same_bits, arrays_of(new), expected))
        assert_rest_is_the_same(new)


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_what_optax_wraps_around_a_model(name):
    """`masked` takes the whole module with a mask of its leaves; `MultiSteps` arrays alone."""
    transform = {**TRANSFORMS, "adam": torchwise.adam(0.5)}[name]
    arrays, grads = FILTERED["without what is frozen"], eqx.filter(GRADS, eqx.is_inexact_array)
    expected, _ = transform.step(grads, transform.init(arrays), arrays)
    masked = optax.masked(transform, jax.tree.map(eqx.is_inexact_array, FROZEN))
    updates, _ = masked.update(GRADS, masked.init(FROZEN), FROZEN)
    new = eqx.apply_updates(FROZEN, updates)
    for ours, wanted in zip(arrays_of(new), arrays_of(expected)):
        np.testing.assert_allclose(ours, wanted, rtol=1e-6)
    several = optax.MultiSteps(transform, 2).gradient_transformation()
    with pytest.raises(TypeError, match="zeros_like"):  # of optax, whatever is in it
        several.init(MODEL)
    with jax.numpy_dtype_promotion("standard"):  # as optax needs it
        state, params = several.init(arrays), arrays
        for _ in range(2):
            updates, state = several.update(grads, state, params)
            params = eqx.apply_updates(params, updates)
    for ours, wanted in zip(arrays_of(params), arrays_of(expected)):
        np.testing.assert_allclose(ours, wanted, rtol=1e-6)
    assert_rest_is_the_same(eqx.combine(params, MODEL))


def test_adafactor_and_muon_take_a_whole_model():
    weight = eqx.tree_at(lambda model: model.layer.bias, FROZEN, None)  # Muon takes matrices
    grads = eqx.tree_at(lambda model: model.layer.bias, GRADS, None)
    for transform in (torchwise.adafactor(0.1), torchwise.muon(0.1)):
        expected, _ = transform.step(
            [grads.layer.weight], transform.init([weight.layer.weight]), [weight.layer.weight]
        )
        new, _ = transform.step(grads, transform.init(weight), weight)
        assert same_bits(new.layer.weight, expected[0])
        updates, _ = transform.update(grads, transform.init(weight), MODEL)
        assert_rest_is_the_same(eqx.apply_updates(MODEL, updates))
    with pytest.raises(ValueError, match="Muon only supports 2D parameters"):
        torchwise.muon(0.1).init(MODEL)
    sparse = torchwise.sparse_adam(0.1)
    with pytest.raises(RuntimeError, match="SparseAdam does not support dense gradients"):
        sparse.step(GRADS, sparse.init(FROZEN), FROZEN)
