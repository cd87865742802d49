"""Every case of the table against real torch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import torchwise
from cases import ADAGRAD, CASES, SHAPES
from distance import same_bits, ulp, ulps, ulps_apart
from functional_run import FunctionalRun, draw
from torch_oracle import TorchRun, correctly_rounded_sqrt, counted_misrounded_roots
from torchwise import optim

STEPS = 100
SGD_CASES = [case for case in CASES if case.optimizer.to_the_bit]
DESCENDING = [case for case in CASES if not case.hyperparameters["maximize"]]
ADAGRAD_CASES = [case for case in CASES if case.optimizer is ADAGRAD]


def both(case, params):
    ours = FunctionalRun(case.optimizer.ours(**case.hyperparameters), params)
    theirs = TorchRun(case.optimizer.theirs, params, **case.hyperparameters)
    return ours, theirs


def walk(ours, theirs, rng, dtype):
    """Take the same steps on both sides; return the largest value that each element has had."""
    reach = [np.abs(param) for param in theirs.params]
    for _ in range(STEPS):
        grads = draw(rng, SHAPES, dtype)
        ours.step(grads)
        theirs.step(grads)
        reach = [np.maximum(old, np.abs(new)) for old, new in zip(reach, theirs.params)]
    return reach


def assert_same_bits(ours, theirs, case):
    for our, their in zip(ours.params, theirs.params):
        assert same_bits(our, their)
    for key in case.optimizer.state_keys:
        for our, their in zip(ours.states(key) or [None] * len(SHAPES), theirs.states(key)):
            assert (our is None and their is None) or same_bits(our, their)


def named(cases):
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


@named(SGD_CASES)
def test_equal_to_the_bit_for_100_steps(case, precision):
    rng = np.random.default_rng(1)
    ours, theirs = both(case, draw(rng, SHAPES, precision))
    walk(ours, theirs, rng, precision)
    assert_same_bits(ours, theirs, case)


# LLVM reads short rows in ways of its own, by their length and number.
ROWS = [(count, length) for length in (2, 3, 4, 5, 7, 8, 9, 16, 17, 31) for count in (3, 64, 100)]
ROWS += [(16, 8, 3, 3), (8, 4, 1, 1), (4, 3, 7, 7), (64, 3, 2), (256, 4)]


@named(CASES)
def test_rows_of_every_length(case, precision):
    rng = np.random.default_rng(6)
    ours, theirs = both(case, draw(rng, ROWS, precision))
    with correctly_rounded_sqrt():
        for _ in range(4):
            grads = draw(rng, ROWS, precision)
            ours.step(grads)
            theirs.step(grads)
    assert_same_bits(ours, theirs, case)


@pytest.mark.parametrize("face", ["functional", "stateful"])
@named([case for case in SGD_CASES if not case.hyperparameters["maximize"]])
def test_numbers_that_are_data(case, face, precision):
    """Numbers that float32 holds exactly, as arguments of the compiled program."""
    exact = {"lr": 0.125, "momentum": 0.875, "dampening": 0.25, "weight_decay": 0.03125}
    hyperparameters = {
        key: exact[key] if value and key in exact else value
        for key, value in case.hyperparameters.items()
    }
    rng = np.random.default_rng(7)
    params = draw(rng, [*ROWS, *SHAPES], precision)
    theirs = TorchRun(torch.optim.SGD, params, **hyperparameters)
    if face == "stateful":
        ours = optim.SGD(params, **hyperparameters)
    else:
        transform = torchwise.sgd(**hyperparameters)
        ours = [jnp.asarray(param) for param in params]
        state = transform.init(ours)
    for _ in range(4):
        grads = draw(rng, [*ROWS, *SHAPES], precision)
        theirs.step(grads)
        if face == "stateful":
            for parameter, grad in zip(ours.param_groups[0]["params"], grads):
                parameter.grad = grad
            ours.step()
        else:
            ours, state = step_with_transform(transform, ours, state, list(map(jnp.asarray, grads)))
    for our, their in zip(ours.params if face == "stateful" else ours, theirs.params):
        assert same_bits(our, their)


@jax.jit
def step_with_transform(transform, params, state, grads):
    updates, state = transform.update(grads, state, params)
    return optax.apply_updates(params, updates), state


@named(ADAGRAD_CASES)
def test_adagrad_is_equal_to_the_bit_where_torchs_root_is_correct(case, precision):
    rng = np.random.default_rng(2)
    ours, theirs = both(case, draw(rng, SHAPES, precision))
    with correctly_rounded_sqrt():
        walk(ours, theirs, rng, precision)
    assert_same_bits(ours, theirs, case)


@named(ADAGRAD_CASES)
def test_adagrad_after_100_steps_differs_by_misrounded_roots_alone(case, precision):
    """Each moves its step by up to 2 ulp, of a step that may be twice as large as the parameter."""
    rng = np.random.default_rng(3)
    ours, theirs = both(case, draw(rng, SHAPES, precision))
    misrounded = [np.zeros(shape, int) for shape in SHAPES]
    with counted_misrounded_roots(misrounded):
        reach = walk(ours, theirs, rng, precision)
    apart = [ulps(*triple) for triple in zip(ours.params, theirs.params, reach)]
    assert all(np.all(distance <= 4 * count) for distance, count in zip(apart, misrounded))
    assert np.mean(np.concatenate([distance.ravel() for distance in apart]) <= 4) > 0.999
    for our, their in zip(ours.states("sum"), theirs.states("sum")):
        assert ulps_apart(our, their) <= 4


def one_step_each(case, shapes, dtype):
    """Steps from torch's own state; yields both sides and torch's values before the step."""
    rng = np.random.default_rng(4)
    theirs = TorchRun(case.optimizer.theirs, draw(rng, shapes, dtype), **case.hyperparameters)
    ours = FunctionalRun(case.optimizer.ours(**case.hyperparameters), theirs.params)
    for _ in range(20):
        before = theirs.params
        memory = {key: theirs.states(key) for key in case.optimizer.state_keys}
        grads = draw(rng, shapes, dtype)
        ours.step(grads)
        theirs.step(grads)
        yield ours, theirs, before, memory, grads
        ours.adopt(theirs, case.optimizer.state_keys)


@named(ADAGRAD_CASES)
def test_each_step_of_adagrad_within_the_error_of_torchs_root(case, precision):
    """A root that is 1 ulp off moves the quotient by up to 2; the sum is rounded once."""
    for ours, theirs, before, *_ in one_step_each(case, SHAPES, precision):
        for our, their, old in zip(ours.params, theirs.params, before):
            larger = np.maximum(np.abs(old), np.abs(their))
            allowed = ulp(larger) + 2 * ulp(np.atleast_1d(their - old))
            assert np.all(np.abs(np.asarray(our) - their) <= allowed)
        for our, their in zip(ours.states("sum"), theirs.states("sum")):
            assert same_bits(our, their)


@named(DESCENDING)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("shapes", "bound"),
    # torch computes blocks of 32 in float32; the rest it rounds after every operation: Nesterov
    # seven times by half an ulp, and we once more
    [pytest.param([(1024,), (8, 32)], 1, id="blocks"), pytest.param([(31,), (5,)], 4, id="rest")],
)
def test_each_step_in_half_precision(case, dtype, shapes, bound):
    for ours, theirs, before, memory, grads in one_step_each(case, shapes, dtype):
        for our, their, old in zip(ours.params, theirs.params, before):
            assert ulps_apart(our, their, old) <= bound
        for key in case.optimizer.state_keys:
            for our, their, old, grad in zip(
                ours.states(key) or [], theirs.states(key), memory[key], grads
            ):
                largest = np.abs(grad) if old is None else np.maximum(np.abs(grad), np.abs(old))
                assert ulps_apart(our, their, largest) <= bound


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@named(DESCENDING)
def test_complex_parameters(case, dtype):
    with jax.enable_x64(dtype == "complex128"):
        rng = np.random.default_rng(5)
        ours, theirs = both(case, draw(rng, SHAPES, dtype))
        for _ in range(20):
            before = theirs.params
            grads = draw(rng, SHAPES, dtype)
            ours.step(grads)
            theirs.step(grads)
            for our, their, old in zip(ours.params, theirs.params, before):
                assert ulps_apart(our, their, old) <= 4
