"""The inputs of torch's own tests of its optimizers, through torch and through our classes.

`torch.testing._internal.common_optimizers.optim_db` names every optimizer of torch, hyperparameters
that it has to take, and those that it has to refuse.
"""

import re

import jax
import numpy as np
import pytest
import test_sparse as sparse
import torch
from jax.experimental.sparse import BCOO
from test_against_torch import DATA_SHAPES, StatefulRun, assert_equal, correct_roots, walk
from test_validation import outcome
from test_with_sums import (
    MATRICES,
    SHAPES,
    Case,
    assert_step_of_adafactor,
    assert_step_of_muon,
)
from torch.testing._internal.common_optimizers import OptimizerErrorEnum, optim_db

from cases import OPTIMIZERS, SPARSE_ADAM, WITH_SUMS
from functional_run import draw
from lbfgs_runs import BOUND, PROBLEMS, STEPS, Ours, Torch, apart, counts
from rounds import both_types
from torch_oracle import TorchRun, to_numpy
from torchwise import optim

ROWS = {row.stateful: row for row in (OPTIMIZERS | WITH_SUMS).values()}
INFOS = {info.name: info for info in optim_db}
STEP = OptimizerErrorEnum.STEP_ERROR
MISSING: set[str] = set()  # torch's optimizers that are not here
SPARSE_ONLY = {"SparseAdam"}
DAILY = ("SGD", "Adam")

# What torch only warns of, or refuses later: the error here instead. See docs/differences.md.
DUPLICATES = "optimizer contains a parameter group with duplicate parameters"
OTHERWISE = {
    "a param group cannot have duplicate parameters": (ValueError, DUPLICATES),
}
# A sparse array is a tree here, of which the data are a parameter.
WITHOUT_PLACES = {"complex not supported"}  # torch adds which of the parameters it are
TAKEN = {"dense params required", "dense params required in param_groups"}


def named(names):
    """Optimizers as parameters of a test; all but those of the daily round are slow."""
    return [
        pytest.param(name, marks=() if name in DAILY else pytest.mark.slow)
        for name in names
        if name not in MISSING
    ]


def ours_of(value):
    """Tensors as arrays, everything else as it is."""
    if isinstance(value, torch.Tensor):
        return to_numpy(value)
    return type(value)(map(ours_of, value)) if isinstance(value, tuple | list) else value


def both_kwargs(inputs):
    return {key: ours_of(value) for key, value in inputs.kwargs.items()}, inputs.kwargs


def test_the_list_of_missing_optimizers_has_no_stale_entry():
    assert MISSING <= INFOS.keys()
    assert not any(hasattr(optim, name) for name in MISSING)
    assert INFOS.keys() - MISSING == {*ROWS, *SPARSE_ONLY, "LBFGS"}


@pytest.fixture(params=both_types())
def precision(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.mark.parametrize("name", named(row.stateful for row in OPTIMIZERS.values()))
def test_inputs_of_the_elementwise_optimizers_are_equal_to_the_bit(name, precision):
    row = ROWS[name]
    for inputs in INFOS[name].optim_inputs_func(device="cpu"):
        given, torchs = both_kwargs(inputs)
        rng = np.random.default_rng(0)
        params = draw(rng, DATA_SHAPES, precision)
        case = Case(row, given)
        ours, theirs = StatefulRun(case, params), TorchRun(row.theirs, params, **torchs)
        with correct_roots(case):
            walk(ours, theirs, rng, DATA_SHAPES, precision, 20)
        assert_equal(ours, theirs, case)


@pytest.mark.slow
@pytest.mark.parametrize("name", [row.stateful for row in WITH_SUMS.values()])
def test_inputs_of_optimizers_with_sums_within_their_rounding(name, precision):
    """Step by step, since the next one starts where torch's has ended."""
    shapes = MATRICES if name == "Muon" else SHAPES
    for inputs in INFOS[name].optim_inputs_func(device="cpu"):
        given, torchs = both_kwargs(inputs)
        rng = np.random.default_rng(0)
        params = draw(rng, shapes, precision)
        ours = StatefulRun(Case(ROWS[name], given), params)
        theirs = TorchRun(ROWS[name].theirs, params, **torchs)
        for _ in range(5):
            before = theirs.params
            walk(ours, theirs, rng, shapes, precision, 1)
            for our, their, old in zip(ours.params, theirs.params, before, strict=True):
                if name == "Muon":
                    assert_step_of_muon(np.asarray(our), their, old, given)
                else:
                    assert_step_of_adafactor(np.asarray(our), their, old)
            follow(ours.optimizer, theirs)


def follow(optimizer, theirs):
    for parameter, data in zip(optimizer.param_groups[0]["params"], theirs.params, strict=True):
        parameter.data = data
    optimizer.load_state_dict(theirs.optimizer.state_dict())


@pytest.mark.slow
def test_inputs_of_lbfgs_take_torchs_path(precision):
    loss, start = PROBLEMS["network"]
    for inputs in INFOS["LBFGS"].optim_inputs_func(device="cpu"):
        given, torchs = both_kwargs(inputs)
        theirs, ours = (
            Torch(loss, start(precision), **torchs),
            Ours(loss, start(precision), **given),
        )
        for _ in range(STEPS[precision]):
            ours.step()
            theirs.step()
            assert counts(ours.state) == counts(theirs.state)
            assert apart(ours.path, theirs.path) <= BOUND[precision]


@pytest.mark.slow
def test_inputs_of_sparse_adam_are_equal_to_the_bit(precision):
    for inputs in INFOS["SparseAdam"].optim_inputs_func(device="cpu"):
        given, torchs = both_kwargs(inputs)
        rng = np.random.default_rng(0)
        params = draw(rng, sparse.SHAPES, precision)
        ours = StatefulRun(Case(SPARSE_ADAM, given), params)
        theirs = TorchRun(torch.optim.SparseAdam, params, **torchs)
        with sparse.exact_torch():
            sparse.walk(ours, theirs, sparse.ADAM, rng, precision, 20)
        sparse.assert_equal(ours, theirs, sparse.ADAM)


class Converted:
    """What torch's errors are made with, in arrays: a tensor is one `Parameter` wherever it is."""

    def __init__(self):
        self._parameters = {}

    def __call__(self, value):
        if isinstance(value, torch.Tensor) and value.is_sparse:
            return BCOO.fromdense(to_numpy(value.to_dense()))
        if isinstance(value, torch.Tensor):
            found = self._parameters.get(value)
            return found or self._parameters.setdefault(value, optim.Parameter(to_numpy(value)))
        if isinstance(value, dict):
            return {key: self(one) for key, one in value.items()}
        return type(value)(map(self, value)) if isinstance(value, tuple | list) else value


def made(kind, params, kwargs, steps):
    optimizer = kind(params, **kwargs)
    if steps:
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = parameter.data
        optimizer.step()


@pytest.mark.parametrize("name", sorted(INFOS.keys() - MISSING))
def test_what_torch_refuses_is_refused_in_torchs_words(name):
    for error in INFOS[name].optim_error_inputs_func("cpu", torch.float32):
        inputs, at_step = error.optimizer_error_input, error.error_on is STEP
        params = [torch.zeros(1, 1)] if inputs.params is None else inputs.params
        convert = Converted()
        theirs = outcome(made, getattr(torch.optim, name), params, inputs.kwargs, at_step)
        assert theirs[0] is error.error_type
        assert re.search(error.error_regex, theirs[1])
        # What torch refuses at the first step is refused when the parameters are added.
        kwargs = {key: ours_of(value) for key, value in inputs.kwargs.items()}
        ours = outcome(made, getattr(optim, name), convert(params), kwargs, False)
        if inputs.desc in TAKEN:
            assert ours is None
            continue
        if inputs.desc in WITHOUT_PLACES:
            assert ours[0] is theirs[0]
            assert theirs[1].endswith(ours[1])
            continue
        kind, text = OTHERWISE.get(inputs.desc, theirs)
        assert ours == (
            kind,
            text.replace(f"but got {torch.typename(params)}", "but got Parameter"),
        )


@pytest.mark.parametrize("description", OTHERWISE)
def test_the_list_of_other_errors_has_no_stale_entry(description):
    every = [
        error
        for info in optim_db
        for error in info.optim_error_inputs_func("cpu", torch.float32)
        if error.optimizer_error_input.desc == description
    ]
    assert every
    assert all(error.error_type is not OTHERWISE[description][0] for error in every)
