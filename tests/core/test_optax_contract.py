"""The transforms inside everything that optax and JAX offer to compose."""

import functools
import operator

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import torchwise
from cases import FULL
from distance import same_bits
from functional_run import shared_updating, updating
from rounds import FIRST, each

PARAMS = {"w": jnp.arange(1.0, 7.0).reshape(2, 3), "b": jnp.ones(3)}
GRADS = jax.tree.map(lambda p: p / 4, PARAMS)


@pytest.fixture(params=each(FULL, FIRST[:1]))
def case(request):
    return request.param


@pytest.fixture
def factory(case):
    """A function of the learning rate alone."""
    return lambda lr=0.1: case.optimizer.ours(**{**case.hyperparameters, "lr": lr})


def run(transform, steps=4, params=PARAMS, grads=GRADS):
    ours = isinstance(transform, torchwise.Chain)
    step = shared_updating(transform) if ours else updating(transform)
    state = transform.init(params)
    for _ in range(steps):
        params, state = step(params, state, grads)
    return params


def assert_same(ours, theirs):
    assert all(jax.tree.leaves(jax.tree.map(same_bits, ours, theirs)))


def test_chain(factory):
    halved = jax.tree.map(lambda g: g / 2, GRADS)
    assert_same(run(optax.chain(optax.scale(0.5), factory())), run(factory(), grads=halved))


@jax.numpy_dtype_promotion("standard")  # optax divides float32 by int32
def test_multi_steps(factory):
    every_second = optax.MultiSteps(factory(), every_k_schedule=2)
    assert_same(run(every_second, steps=8), run(factory(), steps=4))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_inject_hyperparams(case, dtype):
    """The step is that of the numbers that optax holds, in the type of the gradients.

    A state may have been made with another rate, as those of ASGD and Rprop are.
    """
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    transform = optax.inject_hyperparams(case.optimizer.ours)(**case.hyperparameters)
    state, step = transform.init(params), updating(transform)
    for lr in (0.5, 0.25):
        state.hyperparams["lr"] = jnp.asarray(lr, state.hyperparams["lr"].dtype)
        numbers = {key: value.item() for key, value in state.hyperparams.items()}
        alone = case.optimizer.ours(**{**case.hyperparameters, **numbers})
        expected = alone.update(params, case.transform.init(params), params)[0]
        new, after = step(params, state, params)
        chex.assert_trees_all_close(new, optax.apply_updates(params, expected), rtol=1e-2)
        chex.assert_trees_all_equal_shapes_and_dtypes(state, after)


def test_masked(factory):
    masked = optax.masked(factory(), {"w": True, "b": False})
    new = run(masked, steps=1)
    assert_same(new["w"], run(factory(), steps=1)["w"])
    assert_same(new["b"], PARAMS["b"] + GRADS["b"])  # optax passes what it masks


def test_partition(factory):
    both = {"one": factory(0.1), "two": factory(0.01)}
    new = run(optax.partition(both, {"w": "one", "b": "two"}))
    assert_same(new["w"], run(factory(0.1))["w"])
    assert_same(new["b"], run(factory(0.01))["b"])


def test_tree_map_params(factory):
    transform = factory()
    state = transform.init(PARAMS)
    marked = optax.tree_utils.tree_map_params(transform, lambda leaf: leaf + 1, state)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a + 1, b), state.states, marked.states)
    assert marked.step is None or marked.step == state.step  # one count, which is no parameter's
    assert jax.tree.structure(marked) == jax.tree.structure(state)


def test_scan_is_the_loop(factory):
    transform = factory()

    def body(carry, _):
        params, state = carry
        updates, state = transform.update(GRADS, state, params)
        return (optax.apply_updates(params, updates), state), None

    start = (PARAMS, transform.init(PARAMS))
    (params, _), _ = jax.jit(lambda start: lax.scan(body, start, length=4))(start)
    assert_same(params, run(transform))


def test_cond(factory):
    transform = factory()

    @jax.jit
    def maybe(go, params, state):
        def step(params, state):
            updates, state = transform.update(GRADS, state, params)
            return optax.apply_updates(params, updates), state

        return lax.cond(go, step, lambda params, state: (params, state), params, state)

    state = transform.init(PARAMS)
    assert_same(maybe(True, PARAMS, state)[0], run(transform, steps=1))
    assert_same(maybe(False, PARAMS, state)[0], PARAMS)


def test_vmap_over_parameters(factory):
    transform = factory()
    many = jax.tree.map(lambda p: jnp.stack([p, 2 * p, 3 * p]), PARAMS)

    step = jax.jit(jax.vmap(updating(transform), in_axes=(0, 0, None)))
    together, states = many, jax.vmap(transform.init)(many)
    for _ in range(3):
        together, states = step(together, states, GRADS)
    for index in range(3):
        pick = functools.partial(jax.tree.map, operator.itemgetter(index))
        alone = run(transform, steps=3, params=pick(many))
        chex.assert_trees_all_close(pick(together), alone, rtol=1e-6)


def test_shapes_are_known_from_init(factory):
    transform = factory()
    abstract = jax.eval_shape(transform.init, PARAMS)
    state = transform.init(PARAMS)
    chex.assert_trees_all_equal_shapes_and_dtypes(abstract, state)
    _, after = jax.eval_shape(transform.update, GRADS, abstract, PARAMS)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    weak = [leaf.weak_type for leaf in jax.tree.leaves(after)]
    assert weak == [leaf.weak_type for leaf in jax.tree.leaves(state)]
    assert not any(weak)


def test_one_trace_for_100_learning_rates(factory):
    params, state = PARAMS, factory().init(PARAMS)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(lr, params, state):
        updates, state = factory(lr).update(GRADS, state, params)
        return optax.apply_updates(params, updates), state

    for index in range(100):
        params, state = step(0.1 / (1 + index), params, state)
    assert np.all(np.isfinite(params["w"]))


def test_one_trace_for_100_chains(factory):
    """A chain is itself an argument: its hyperparameters are data."""
    params, state = PARAMS, factory().init(PARAMS)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(transform, params, state):
        updates, state = transform.update(GRADS, state, params)
        return optax.apply_updates(params, updates), state

    for index in range(100):
        params, state = step(factory(0.1 / (1 + index)), params, state)
    assert np.all(np.isfinite(params["w"]))


def assert_scheduled(factory, schedule):
    @jax.jit
    def step(lr, params, state):
        return factory(lr).step(GRADS, state, params)

    params, state = PARAMS, factory(float(schedule(0))).init(PARAMS)
    for count in range(5):
        params, state = step(float(schedule(count)), params, state)
    chex.assert_trees_all_close(run(factory(schedule), steps=5), params, rtol=1e-6)


@jax.numpy_dtype_promotion("standard")  # optax's schedules mix int32 and floats
def test_an_optax_schedule(factory):
    """Each step has the rate that the schedule gives for the steps before it."""
    assert_scheduled(factory, optax.cosine_decay_schedule(0.1, 10))


@pytest.mark.parametrize("schedule", [optax.linear_schedule(0.1, 0.01, 10), lambda _: 0.1])
@jax.numpy_dtype_promotion("standard")
def test_other_optax_schedules(schedule):
    assert_scheduled(torchwise.sgd, schedule)


def test_sgd_is_optaxs_sgd():
    ours = run(optax.chain(torchwise.sgd(0.1, momentum=0.9)), steps=5)
    chex.assert_trees_all_close(ours, run(optax.sgd(0.1, momentum=0.9), steps=5), rtol=1e-6)
