"""Every case of the table against real torch."""

import contextlib
import functools

import jax
import numpy as np
import pytest

import torchwise
from cases import CASES, FULL, PRODUCT, SHAPES
from distance import same_numbers, ulp, ulps, ulps_apart
from functional_run import WAYS, FunctionalRun, draw, step_of_any
from torch_oracle import TorchRun, correctly_rounded_sqrt, counted_misrounded_roots
from torchwise import optim

STEPS = 100
# LLVM reads short rows in ways of its own, by their length and number.
ROWS = [(count, length) for length in (2, 3, 4, 5, 7, 8, 9, 16, 17, 31) for count in (3, 64, 100)]
ROWS += [(16, 8, 3, 3), (8, 4, 1, 1), (4, 3, 7, 7), (64, 3, 2), (256, 4), (3, 1, 5), (1,)]


@pytest.fixture(scope="module", params=CASES, ids=[case.name for case in CASES])
def case(request):
    """Scoped so that the tests of one case follow each other and share its programs."""
    return request.param


@pytest.fixture(scope="module")
def programs(case):
    return {way: jitted(case.transform) for way, jitted in WAYS.items()}


def correct_roots(case):
    """Torch with correctly rounded roots, where the case has any."""
    return correctly_rounded_sqrt() if case.optimizer.roots else contextlib.nullcontext()


def both(case, params, step=None):
    theirs = TorchRun(case.optimizer.theirs, params, **case.hyperparameters)
    return FunctionalRun(case.transform, params, step), theirs


def walk(ours, theirs, rng, shapes, dtype, steps):
    for _ in range(steps):
        grads = draw(rng, shapes, dtype)
        ours.step(grads)
        theirs.step(grads)


def states_of(run, case):
    return {key: run.states(key) for key in case.optimizer.state_keys}


def assert_equal(ours, theirs, case, same=same_numbers):
    for our, their in zip(ours.params, theirs.params, strict=True):
        assert same(our, their)
    for key in case.optimizer.state_keys:
        for our, their in zip(ours.states(key), theirs.states(key), strict=True):
            assert (our is None and their is None) or same(our, their), key
    if case.optimizer.counts:
        assert list(map(int, ours.states("step"))) == list(map(int, theirs.states("step")))


@pytest.mark.parametrize("way", WAYS)
def test_equal_to_the_bit_for_100_steps(case, programs, way, precision):
    rng = np.random.default_rng(1)
    ours, theirs = both(case, draw(rng, SHAPES, precision), programs[way])
    with correct_roots(case):
        walk(ours, theirs, rng, SHAPES, precision, STEPS)
    assert_equal(ours, theirs, case)


def test_roots_apart_equal_to_the_bit_with_torch_as_it_is(case, programs, precision):
    """Elements whose roots torch has rounded correctly so far are equal, states included.

    Every other one is off by no more than `drift` ulp for each misrounded root. Where a state
    remembers the error and moves the parameter again, no such bound is known; for a single step
    the next test has one.
    """
    rng = np.random.default_rng(3)
    ours, theirs = both(case, draw(rng, SHAPES, precision), programs["step"])
    misrounded = [np.zeros(shape, int) for shape in SHAPES]
    reach = [np.abs(param) for param in theirs.params]
    with counted_misrounded_roots(misrounded):
        for _ in range(STEPS):
            walk(ours, theirs, rng, SHAPES, precision, 1)
            reach = [np.maximum(old, np.abs(new)) for old, new in zip(reach, theirs.params)]
            exact = [count == 0 for count in misrounded]
            columns = [(ours.params, theirs.params)]
            columns += [(ours.states(key), theirs.states(key)) for key in case.optimizer.state_keys]
            for our, their in columns:
                assert all(
                    (one is None and other is None) or same_numbers(one[right], other[right])
                    for one, other, right in zip(map(as_numpy, our), their, exact)
                )
    if case.optimizer.drift is not None:
        apart = [ulps(*triple) for triple in zip(ours.params, theirs.params, reach)]
        for distance, count in zip(apart, misrounded):
            assert np.all(distance <= case.optimizer.drift * count)
        assert np.mean(np.concatenate([each.ravel() for each in apart]) <= 4) > 0.999


def as_numpy(array):
    return None if array is None else np.asarray(array)


def test_each_step_within_the_error_of_torchs_root(case, programs, precision):
    """A root that is 1 ulp off moves its quotient by up to 2; sums are rounded once.

    A state made of quotients is such a sum: its ulp may be two of the step that is made of it.
    """
    rng = np.random.default_rng(4)
    ours, theirs = both(case, draw(rng, SHAPES, precision), programs["step"])
    row = case.optimizer
    for _ in range(20):
        before, memory = theirs.params, states_of(theirs, case)
        ours.adopt(before, memory)
        walk(ours, theirs, rng, SHAPES, precision, 1)
        memory, after = zeros_for_none(memory), zeros_for_none(states_of(theirs, case))
        for index, (our, their, old) in enumerate(zip(ours.params, theirs.params, before)):
            olds, news = ({key: tree[key][index] for key in tree} for tree in (memory, after))
            step = np.atleast_1d(their - old)
            divided = row.divided(case.hyperparameters, step, olds, news).astype(precision)
            of_root = 2 * ulp(divided)
            for key in row.state_keys:
                held = ours.states(key)[index]
                if key in row.rooted and held is not None:
                    quotient = divided / np.asarray(case.hyperparameters["lr"], precision)
                    assert_within(held, news[key], olds[key], 2 * ulp(quotient))
                    of_root += 2 * ulp(step)
                else:
                    assert held is None or same_numbers(held, news[key])
            assert_within(our, their, old, of_root)


def zeros_for_none(states):
    return {
        key: [np.zeros(shape) if leaf is None else leaf for leaf, shape in zip(leaves, SHAPES)]
        for key, leaves in states.items()
    }


def assert_within(our, their, old, of_root):
    """One rounding of the sum, and what comes of the root; NaN where torch has it."""
    our = np.asarray(our)
    np.testing.assert_array_equal(np.isnan(our), np.isnan(their))
    larger = np.atleast_1d(np.maximum(np.abs(old), np.abs(their)))
    allowed = ulp(larger) + of_root
    assert np.all((np.abs(our - their) <= allowed) | np.isnan(our))


def rows_for(case, way):
    """A part of the rows; the cases of one optimizer have them all between them."""
    programs = [
        (other, which) for other in CASES if other.optimizer is case.optimizer for which in WAYS
    ]
    parts = min(12, len(programs))
    return ROWS[programs.index((case, way)) % parts :: parts]


def check_rows(case, way, rows, precision):
    rng = np.random.default_rng(6)
    ours, theirs = both(case, draw(rng, rows, precision), WAYS[way](case.transform))
    with correct_roots(case):
        walk(ours, theirs, rng, rows, precision, 4)
    assert_equal(ours, theirs, case)


@pytest.mark.parametrize("way", WAYS)
def test_rows_of_every_length(case, way, precision):
    check_rows(case, way, rows_for(case, way), precision)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("combination", PRODUCT, ids=[case.name for case in PRODUCT])
def test_all_rows_in_all_combinations(combination, way, precision):
    check_rows(combination, way, [*SHAPES, *ROWS], precision)


def representable(case):
    """Hyperparameters rounded to what float32 holds, which no argument of a program rounds."""
    return {
        key: float(np.float32(value)) if isinstance(value, float) else value
        for key, value in case.hyperparameters.items()
    }


def check_numbers_that_are_data(case, ours, rng, shapes, precision):
    theirs = TorchRun(case.optimizer.theirs, ours.params, **representable(case))
    with correct_roots(case):
        walk(ours, theirs, rng, shapes, precision, 4)
    for our, their in zip(ours.params, theirs.params, strict=True):
        assert same_numbers(our, their)


def test_numbers_that_are_data(case, precision):
    rng, shapes = np.random.default_rng(7), [*rows_for(case, "step"), (1003,), ()]
    transform = case.optimizer.ours(**representable(case))
    params = draw(rng, shapes, precision)
    ours = FunctionalRun(transform, params, functools.partial(step_of_any, transform))
    check_numbers_that_are_data(case, ours, rng, shapes, precision)


class StatefulRun:
    """The class in torchwise.optim over a list of arrays."""

    def __init__(self, case, params):
        self.optimizer = getattr(optim, case.optimizer.stateful)(params, **representable(case))

    def step(self, grads):
        for parameter, grad in zip(self.optimizer.param_groups[0]["params"], grads, strict=True):
            parameter.grad = grad
        self.optimizer.step()

    @property
    def params(self):
        return self.optimizer.params


@pytest.mark.parametrize("full", FULL, ids=[case.name for case in FULL])
def test_numbers_of_the_stateful_class(full, precision):
    """Its hyperparameters are data as well."""
    rng, shapes = np.random.default_rng(7), [*rows_for(full, "step"), (1003,), ()]
    ours = StatefulRun(full, draw(rng, shapes, precision))
    check_numbers_that_are_data(full, ours, rng, shapes, precision)


HALF_SHAPES = [(1024,), (31,), ()]


class InBlocks(TorchRun):
    """Torch over half precision arrays, filled up to whole blocks of its vector code.

    There torch computes in float32 and rounds after each operation. The rest of an array it rounds
    after every multiplication and addition, so that a value depends on where it stands. Ours are
    everywhere what torch's are in blocks.
    """

    def __init__(self, optimizer, params, **hyperparameters):
        self.shapes = [np.shape(param) for param in params]
        super().__init__(optimizer, list(map(self._fill, params)), **hyperparameters)

    def step(self, grads):
        super().step(list(map(self._fill, grads)))

    @property
    def params(self):
        return self._cut(super().params)

    def states(self, key):
        return self._cut(super().states(key))

    def _fill(self, array):
        flat = np.ravel(array)
        return np.concatenate([flat, np.ones(-flat.size % 128, flat.dtype)])

    def _cut(self, arrays):
        return [
            array
            if array is None or not array.ndim
            else array[: np.prod(shape, dtype=int)].reshape(shape)
            for array, shape in zip(arrays, self.shapes)
        ]


def same_where_finite(ours, theirs):
    """float16 has no 1e-8, so that torch divides by roots that are zero; of either sign.

    XLA takes `x + 0` for `x`, also for a root of -0.0, and the infinity has the other sign.
    """
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    finite = np.isfinite(theirs)
    np.testing.assert_array_equal(np.isfinite(ours), finite)
    return same_numbers(ours[finite], theirs[finite])


@pytest.fixture(params=["bfloat16", "float16"])
def half(request):
    return np.dtype(request.param)


def test_half_types_are_equal_to_the_bit_in_torchs_blocks(case, programs, half):
    rng = np.random.default_rng(8)
    params = draw(rng, HALF_SHAPES, half)
    ours = FunctionalRun(case.transform, params, programs["step"])
    theirs = InBlocks(case.optimizer.theirs, params, **case.hyperparameters)
    with correct_roots(case):
        walk(ours, theirs, rng, HALF_SHAPES, half, 20)
    assert_equal(ours, theirs, case, same_where_finite)


def test_an_increment_of_a_half_type_is_rounded_once_more(case, programs, half):
    """optax adds increments that are rounded already: by half an ulp, and then the sum rounds."""
    rng = np.random.default_rng(9)
    params = draw(rng, HALF_SHAPES, half)
    ours = FunctionalRun(case.transform, params, programs["update"])
    theirs = InBlocks(case.optimizer.theirs, params, **case.hyperparameters)
    with correct_roots(case):
        for _ in range(20):
            ours.adopt(theirs.params, states_of(theirs, case))
            old = theirs.params
            walk(ours, theirs, rng, HALF_SHAPES, half, 1)
            for our, their, before in zip(ours.params, theirs.params, old):
                our, their, before = (
                    np.atleast_1d(each).astype(float) for each in (our, their, before)
                )
                finite = np.isfinite(their)
                np.testing.assert_array_equal(np.isfinite(our), finite)
                sums = np.maximum(np.abs(our), np.abs(their))[finite].astype(half)
                increments = np.abs(their - before)[finite].astype(half)
                apart = np.abs(our - their)[finite]
                assert np.all(apart <= ulp(sums) + ulp(increments) / 2)


@pytest.fixture(params=["complex64", "complex128"])
def complex_type(request):
    with jax.enable_x64(request.param == "complex128"):
        yield request.param


COMPLEX_SHAPES = [(1003,), (7, 9), ()]


def test_complex_numbers_are_pairs(case, programs, complex_type):
    """To the bit what torch's optimizers do with pairs of real numbers."""
    rng = np.random.default_rng(5)
    params = draw(rng, COMPLEX_SHAPES, complex_type)
    ours = FunctionalRun(case.transform, params, programs["step"])
    theirs = TorchRun(case.optimizer.theirs, pairs(params), **case.hyperparameters)
    with correct_roots(case):
        for _ in range(20):
            grads = draw(rng, COMPLEX_SHAPES, complex_type)
            ours.step(grads)
            theirs.step(pairs(grads))
    for our, their in zip(pairs(ours.params), theirs.params, strict=True):
        assert same_numbers(our, their)
    for key in case.optimizer.state_keys:
        for our, their in zip(ours.states(key), theirs.states(key), strict=True):
            assert (our is None and their is None) or same_numbers(pairs([our])[0], their)


def test_each_step_with_torchs_complex_arithmetic(case, programs, complex_type):
    """Its sum with a factor rounds the product, too; that of real numbers is fused."""
    rng = np.random.default_rng(5)
    ours, theirs = both(case, draw(rng, COMPLEX_SHAPES, complex_type), programs["step"])
    with correct_roots(case):
        for _ in range(20):
            before = theirs.params
            ours.adopt(before, states_of(theirs, case))
            walk(ours, theirs, rng, COMPLEX_SHAPES, complex_type, 1)
            for triple in zip(ours.params, theirs.params, before):
                assert ulps_apart(*triple) <= case.optimizer.complex_ulps


def pairs(arrays):
    """Complex arrays as real ones with two numbers more in the last axis."""
    return [np.stack([np.real(array), np.imag(array)], axis=-1) for array in arrays]


def test_a_shared_count_needs_every_gradient(case):
    params = {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)}
    transform = case.transform
    grads = {"a": params["a"], "b": None}
    if not transform.counts:
        assert transform.step(grads, transform.init(params), params)[1].step is None
        return
    for call in (transform.step, transform.update):
        with pytest.raises(ValueError, match=r"no gradient for \['b'\].*per_parameter_steps=True"):
            call(grads, transform.init(params), params)
    counted = torchwise.chain(transform, per_parameter_steps=True)
    new, state = counted.step(grads, counted.init(params), params)
    assert same_numbers(new["b"], params["b"])
    assert state.step == {"a": 1, "b": 0}
