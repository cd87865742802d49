"""Every case of the table against real torch."""

import contextlib
import functools

import jax
import numpy as np
import pytest
import torch

import torchwise
from cases import CASES, FULL, PRODUCT, SHAPES
from distance import same_numbers, ulp, ulps, ulps_apart
from functional_run import WAYS, FunctionalRun, draw, step_of_any
from rounds import FIRST, both_types, each, exhaustive
from torch_oracle import (
    TorchRun,
    correctly_rounded_sqrt,
    counted_misrounded_roots,
    numpys_powers,
    to_numpy,
    to_torch,
)
from torchwise import optim

STEPS = 100
# LLVM reads short rows in ways of its own, by their length and number.
ROWS = [(64, 2), (64, 3), (256, 4), (100, 7), (3, 9), (16, 8, 3, 3)]
ALL_ROWS = [(count, length) for length in (2, 3, 4, 5, 7, 8, 9, 16, 17, 31) for count in (3, 100)]
ALL_ROWS += [(8, 4, 1, 1), (4, 3, 7, 7), (64, 3, 2), (3, 1, 5), (1,), *ROWS]
ADDING = [case for case in CASES if case.transform.rule.adds]
OTHERS = [case for case in FULL if not case.transform.rule.adds]


@pytest.fixture(params=both_types())
def precision(request):
    """The type of the parameters. Every full case has a test of its own in float64."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


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


def check_steps(case, step, precision):
    rng = np.random.default_rng(1)
    ours, theirs = both(case, draw(rng, SHAPES, precision), step)
    with correct_roots(case):
        walk(ours, theirs, rng, SHAPES, precision, STEPS)
    assert_equal(ours, theirs, case)


@pytest.mark.parametrize("case", each(CASES, FIRST))
def test_equal_to_the_bit_for_100_steps(case):
    check_steps(case, None, "float32")


@pytest.mark.parametrize("case", each(FULL))
def test_equal_to_the_bit_in_double_precision(case):
    with jax.enable_x64(True):
        check_steps(case, None, "float64")


@exhaustive
@pytest.mark.parametrize("case", each(PRODUCT))
def test_every_combination(case, precision):
    check_steps(case, None, precision)


@pytest.mark.parametrize("case", each([case for case in FULL if case in ADDING]))
def test_an_increment_is_exact_where_the_rule_adds(case, precision):
    """Through optax's `update` and `apply_updates`, in one program."""
    check_steps(case, WAYS["update"](case.transform), precision)


@pytest.mark.parametrize("case", each(OTHERS))
def test_an_increment_rounds_once_more_where_the_rule_does_not_add(case, precision):
    """The difference of new and old is exact unless one is more than twice the other."""
    rng = np.random.default_rng(2)
    step = WAYS["update"](case.transform)
    ours, theirs = both(case, draw(rng, SHAPES, precision), step)
    with correct_roots(case):
        for _ in range(20):
            before = theirs.params
            ours.adopt(before, states_of(theirs, case))
            walk(ours, theirs, rng, SHAPES, precision, 1)
            for our, their, old in zip(ours.params, theirs.params, before):
                assert ulps_apart(our, their, old) <= 1
                near = (np.abs(old) <= 2 * np.abs(their)) & (np.abs(their) <= 2 * np.abs(old))
                near &= np.sign(old) == np.sign(their)
                assert same_numbers(np.asarray(our)[near], their[near])


def test_elements_with_correct_roots_are_equal_with_torch_as_it_is(rooted, precision):
    """Every other one is off by no more than `drift` ulp for each misrounded root.

    Where a state remembers the error and moves the parameter again, no such bound is known; for a
    single step the next test has one.
    """
    case = rooted
    rng = np.random.default_rng(3)
    ours, theirs = both(case, draw(rng, SHAPES, precision))
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
                assert all(map(same_where, our, their, exact))
    if case.optimizer.drift is not None:
        apart = [ulps(*triple) for triple in zip(ours.params, theirs.params, reach)]
        for distance, count in zip(apart, misrounded):
            assert np.all(distance <= case.optimizer.drift * count)
        assert np.mean(np.concatenate([each.ravel() for each in apart]) <= 4) > 0.999


@pytest.fixture(params=each([case for case in FULL if case.optimizer.roots]))
def rooted(request):
    """A case with roots."""
    return request.param


def same_where(our, their, right):
    """Whether arrays like the parameter agree in some elements, and numbers of it at all."""
    if our is None:
        return their is None
    if np.shape(our) != right.shape:
        return same_numbers(our, their)
    return same_numbers(np.asarray(our)[right], their[right])


def test_each_step_within_the_error_of_torchs_root(rooted, precision):
    """A state that quotients enter is a sum of its own: its ulp may be two of the step's."""
    case, row = rooted, rooted.optimizer
    rng = np.random.default_rng(4)
    ours, theirs = both(case, draw(rng, SHAPES, precision))
    for _ in range(20):
        before, olds = theirs.params, states_of(theirs, case)
        ours.adopt(before, olds)
        walk(ours, theirs, rng, SHAPES, precision, 1)
        news = states_of(theirs, case)
        for index, (our, their, old) in enumerate(zip(ours.params, theirs.params, before)):
            step = np.atleast_1d(their - old)
            of_roots = row.root_ulps * ulp(step)
            if row.largest_quotient is not None:
                largest = np.full_like(step, row.largest_quotient(case.hyperparameters))
                of_roots = ulp(np.maximum(np.abs(old), largest)) + 2 * row.root_ulps * ulp(largest)
            for key in row.state_keys:
                held, new = ours.states(key)[index], news[key][index]
                if held is None or key not in row.rooted:
                    assert held is None or same_numbers(held, new)
                    continue
                was = np.zeros_like(new) if olds[key][index] is None else olds[key][index]
                part = np.atleast_1d(row.rooted[key](case.hyperparameters, was, new))
                assert_within(held, new, was, row.root_ulps * ulp(part.astype(precision)))
                moved = (case.hyperparameters["lr"] * part).astype(precision)
                of_roots = of_roots + row.root_ulps * (ulp(moved) + ulp(step))
            assert_within(our, their, old, of_roots)


def assert_within(our, their, old, of_roots):
    """One rounding of the sum, and what comes of the roots; NaN where torch has it."""
    our = np.asarray(our)
    np.testing.assert_array_equal(np.isnan(our), np.isnan(their))
    larger = np.atleast_1d(np.maximum(np.abs(old), np.abs(their)))
    allowed = ulp(larger) + of_roots
    assert np.all((np.abs(our - their) <= allowed) | np.isnan(our))


def check_rows(case, way, rows, precision):
    rng = np.random.default_rng(6)
    ours, theirs = both(case, draw(rng, rows, precision), WAYS[way](case.transform))
    with correct_roots(case):
        walk(ours, theirs, rng, rows, precision, 4)
    assert_equal(ours, theirs, case)


@pytest.mark.parametrize("case", each(FULL, daily=()))
def test_short_rows(case):
    check_rows(case, "step", ROWS, "float32")


@exhaustive
@pytest.mark.parametrize("case", each([case for case in FULL if case in ADDING]))
def test_all_rows_of_increments(case, precision):
    check_rows(case, "update", ALL_ROWS, precision)


@exhaustive
@pytest.mark.parametrize("case", each(FULL))
def test_all_rows(case, precision):
    check_rows(case, "step", ALL_ROWS, precision)


def representable(case):
    """Hyperparameters rounded to what float32 holds, which no argument of a program rounds."""
    return jax.tree.map(
        lambda value: float(np.float32(value)) if isinstance(value, float) else value,
        case.hyperparameters,
    )


def check_numbers_that_are_data(case, ours, rng, shapes, precision):
    theirs = TorchRun(case.optimizer.theirs, ours.params, **representable(case))
    with correct_roots(case):
        walk(ours, theirs, rng, shapes, precision, 20)
    for our, their in zip(ours.params, theirs.params, strict=True):
        assert same_numbers(our, their)


DATA_SHAPES = [(1003,), (), (64, 3)]


@pytest.mark.parametrize("case", each(CASES, usual=FULL))
def test_numbers_that_are_data(case, precision):
    """Cases of one structure share one program."""
    rng = np.random.default_rng(7)
    transform = case.optimizer.ours(**representable(case))
    params = draw(rng, DATA_SHAPES, precision)
    ours = FunctionalRun(transform, params, functools.partial(step_of_any, transform))
    check_numbers_that_are_data(case, ours, rng, DATA_SHAPES, precision)


class StatefulRun:
    """The class in torchwise.optim over a list of arrays."""

    def __init__(self, case, params):
        self.optimizer = getattr(optim, case.optimizer.stateful)(params, **case.hyperparameters)

    def step(self, grads):
        for parameter, grad in zip(self.optimizer.param_groups[0]["params"], grads, strict=True):
            parameter.grad = grad
        self.optimizer.step()

    @property
    def params(self):
        return self.optimizer.params

    def states(self, key):
        parameters = self.optimizer.param_groups[0]["params"]
        return [self.optimizer.state[parameter].get(key) for parameter in parameters]


@pytest.mark.parametrize("case", each(CASES, FIRST, FULL))
def test_the_stateful_class(case, precision):
    """Its hyperparameters are data in double precision: cases of one structure share a program."""
    rng = np.random.default_rng(7)
    params = draw(rng, DATA_SHAPES, precision)
    ours = StatefulRun(case, params)
    theirs = TorchRun(case.optimizer.theirs, params, **case.hyperparameters)
    with correct_roots(case):
        walk(ours, theirs, rng, DATA_SHAPES, precision, 20)
    assert_equal(ours, theirs, case)


IN_DOUBLE = {"NAdam"}  # its numbers depend on a state, and do not round to float32 in between


TENSOR_BETAS = {"Adam", "AdamW"}  # the others take numbers alone


def tensors(case, key):
    """A hyperparameter as float32 arrays and as torch's tensors, in place of a number."""
    value = case.hyperparameters[key]
    numbers = value if isinstance(value, tuple) else (value,)
    arrays = tuple(np.asarray(number, np.float32) for number in numbers)
    of_torch = tuple(map(to_torch, arrays))
    if not isinstance(value, tuple):
        (arrays,), (of_torch,) = arrays, of_torch
    return {key: arrays}, {key: of_torch}


def check_tensors(case, key, precision):
    rng = np.random.default_rng(10)
    params = draw(rng, DATA_SHAPES, precision)
    arrays, of_torch = tensors(case, key)
    ours = StatefulRun(case._replace(hyperparameters={**case.hyperparameters, **arrays}), params)
    theirs = TorchRun(case.optimizer.theirs, params, **{**case.hyperparameters, **of_torch})
    with correct_roots(case), numpys_powers():
        walk(ours, theirs, rng, DATA_SHAPES, precision, 20)
    assert_equal(ours, theirs, case)


@pytest.mark.parametrize(
    "case", each([case for case in FULL if case.optimizer.stateful not in IN_DOUBLE], usual=FIRST)
)
def test_a_tensor_for_a_rate_rounds_to_float32(case, precision):
    check_tensors(case, "lr", precision)


@pytest.mark.parametrize(
    "case", each([case for case in FULL if case.optimizer.stateful in TENSOR_BETAS], usual=FIRST)
)
def test_tensors_for_betas_round_to_float32(case, precision):
    check_tensors(case, "betas", precision)


def test_a_number_of_numpy_and_one_of_python_are_two_rates():
    """They are equal where float32 holds the number, and compute in other ways."""
    params, rng = [np.ones(1003, np.float32)], np.random.default_rng(11)
    optimizer = optim.Adam(params)
    theirs = TorchRun(torch.optim.Adam, params)
    with correctly_rounded_sqrt():
        for lr in (0.5, np.full((), 0.5, np.float32), 0.5):
            (grad,) = draw(rng, [(1003,)], "float32")
            optimizer.param_groups[0]["lr"] = lr
            theirs.optimizer.param_groups[0]["lr"] = lr if isinstance(lr, float) else to_torch(lr)
            optimizer.param_groups[0]["params"][0].grad = grad
            optimizer.step()
            theirs.step([grad])
            assert same_numbers(optimizer.params[0], theirs.params[0])


def test_a_group_of_adamw_that_does_not_decouple_its_decay():
    """As torch, which obeys the group until its dict is loaded."""
    rng = np.random.default_rng(12)
    start = draw(rng, [(33,), (33,)], "float32")
    tensors = [to_torch(param) for param in start]
    theirs = torch.optim.AdamW([{"params": tensors[:1]}], weight_decay=0.1)
    ours = optim.AdamW([{"params": start[:1]}], weight_decay=0.1)
    theirs.add_param_group({"params": tensors[1:], "decoupled_weight_decay": False})
    ours.add_param_group({"params": start[1:], "decoupled_weight_decay": False})
    with correctly_rounded_sqrt():
        for step in range(6):
            if step == 3:
                assert not ours.param_groups[1]["decoupled_weight_decay"]
                theirs.load_state_dict(theirs.state_dict())
                ours.load_state_dict(ours.state_dict())
                assert ours.param_groups[1]["decoupled_weight_decay"] is True
                assert theirs.param_groups[1]["decoupled_weight_decay"] is True
            grads = draw(rng, [(33,), (33,)], "float32")
            for group, tensor, grad in zip(ours.param_groups, tensors, grads, strict=True):
                group["params"][0].grad, tensor.grad = grad, to_torch(grad)
            ours.step()
            theirs.step()
            for group, tensor in zip(ours.param_groups, tensors, strict=True):
                assert same_numbers(group["params"][0].data, to_numpy(tensor))


HALF_SHAPES = [(1055,), ()]


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


@pytest.mark.parametrize("case", each())
def test_half_types_are_equal_to_the_bit_in_torchs_blocks(case, half):
    rng = np.random.default_rng(8)
    params = draw(rng, HALF_SHAPES, half)
    ours = FunctionalRun(case.transform, params)
    theirs = InBlocks(case.optimizer.theirs, params, **case.hyperparameters)
    with correct_roots(case):
        walk(ours, theirs, rng, HALF_SHAPES, half, 20)
    assert_equal(ours, theirs, case, same_where_finite)


@pytest.mark.parametrize("case", each([case for case in FULL if case in ADDING], daily=()))
def test_an_increment_of_a_half_type_is_rounded_once_more(case, half):
    """optax adds increments that are rounded already: by half an ulp, and then the sum rounds."""
    rng = np.random.default_rng(9)
    params = draw(rng, HALF_SHAPES, half)
    ours = FunctionalRun(case.transform, params, WAYS["update"](case.transform))
    theirs = InBlocks(case.optimizer.theirs, params, **case.hyperparameters)
    with correct_roots(case):
        for _ in range(20):
            ours.adopt(theirs.params, states_of(theirs, case))
            old = theirs.params
            walk(ours, theirs, rng, HALF_SHAPES, half, 1)
            for our, their, before in zip(ours.params, theirs.params, old):
                finite = np.isfinite(their)
                np.testing.assert_array_equal(np.isfinite(our), finite)
                our, their, before = (
                    np.asarray(each)[finite].astype(np.float32) for each in (our, their, before)
                )
                sums = ulp(np.maximum(np.abs(our), np.abs(their)).astype(half))
                increments = ulp(np.abs(their - before).astype(half))
                assert np.all(np.abs(our - their) <= sums + increments / 2)


@pytest.fixture(params=both_types("complex64", "complex128"))
def complex_type(request):
    with jax.enable_x64(request.param == "complex128"):
        yield request.param


COMPLEX_SHAPES = [(1003,), ()]


@pytest.mark.parametrize("case", each())
def test_complex_numbers_are_pairs(case, complex_type):
    """To the bit what torch's optimizers do with pairs of real numbers."""
    rng = np.random.default_rng(5)
    params = draw(rng, COMPLEX_SHAPES, complex_type)
    ours = FunctionalRun(case.transform, params)
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
            our = pairs([our])[0] if np.iscomplexobj(our) else our
            assert (our is None and their is None) or same_numbers(our, their)


@pytest.mark.parametrize("case", each(daily=()))
def test_each_step_with_torchs_complex_arithmetic(case, complex_type):
    """Its sum with a factor rounds the product, too; that of real numbers is fused."""
    rng = np.random.default_rng(5)
    ours, theirs = both(case, draw(rng, COMPLEX_SHAPES, complex_type))
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


@pytest.mark.parametrize("case", each())
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
