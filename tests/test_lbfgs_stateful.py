"""What LBFGS has around its path: state dicts, errors, hooks, whole steps."""

import copy
import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from lbfgs_runs import (
    BOUND,
    OPTIONS,
    PROBLEMS,
    SEARCH,
    Ours,
    Torch,
    apart,
    counts,
    joined,
    regression,
    rosenbrock,
)
from torch_oracle import to_numpy, to_torch
from torchwise import checkpoint
from torchwise.optim.lbfgs import LBFGS
from torchwise.optim.optimizer import Optimizer
from torchwise.optim.parameter import Parameter


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_torchs_state_goes_on_here_and_back_in_torch(options, tmp_path, precision):
    loss, start = PROBLEMS["network"]
    options = {**options, "max_iter": 5}
    reference = Torch(loss, start(precision), **options)
    reference.step()
    here = Ours(loss, [to_numpy(tensor) for tensor in reference.tensors])
    here.optimizer.load_state_dict(copy.deepcopy(reference.optimizer.state_dict()))
    assert here.optimizer.param_groups[0]["max_iter"] == 5
    for _ in range(2):
        reference.step()
        here.step()
        assert counts(here.state) == counts(reference.state)
        assert apart(here.params, reference.params) <= BOUND[precision]
    checkpoint.save(tmp_path / "state.pt", here.optimizer.state_dict())
    there = Torch(loss, map(np.asarray, here.optimizer.params))
    there.optimizer.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert list(there.state) == list(reference.state)
    assert there.optimizer.param_groups[0].keys() == reference.optimizer.param_groups[0].keys()
    reference.step()
    there.step()
    assert counts(there.state) == counts(reference.state)
    assert apart(there.params, reference.params) <= BOUND[precision]


def test_a_state_dict_of_ours_goes_on_to_the_bit():
    options = {**SEARCH, "history_size": 3}
    run = Ours(rosenbrock, PROBLEMS["rosenbrock"][1]("float32"), **options)
    run.step()
    resumed = Ours(rosenbrock, run.optimizer.params)
    resumed.optimizer.load_state_dict(run.optimizer.state_dict())
    copied = copy.deepcopy(run.optimizer)
    run.step()
    resumed.step()
    copied.train_step(run.loss)
    np.testing.assert_array_equal(run.params, resumed.params)
    np.testing.assert_array_equal(run.params, joined(copied.params))
    jax.tree.map(np.testing.assert_array_equal, dict(run.state), dict(resumed.state))


def test_complex_numbers_are_pairs_and_no_gradient_is_zero():
    start = [np.array([1 + 2j, -3 + 0.5j], np.complex64), np.ones(2, np.float32)]
    tensors = [to_torch(array).requires_grad_() for array in start]
    parameters = [Parameter(array) for array in start]
    theirs, ours = torch.optim.LBFGS(tensors, lr=0.5), LBFGS(parameters, lr=0.5)

    def their_closure():
        theirs.zero_grad()
        loss = (tensors[0].real ** 4 + 3 * tensors[0].imag ** 2).sum()
        loss.backward()
        return loss

    def our_closure():
        z = parameters[0].data
        parameters[0].grad = jax.lax.complex(4 * z.real**3, 6 * z.imag)
        return jnp.sum(z.real**4 + 3 * z.imag**2)

    for _ in range(2):
        theirs.step(their_closure)
        ours.step(our_closure)
    assert counts(ours.state[parameters[0]]) == counts(theirs.state[tensors[0]])
    assert apart(parameters[0].data, to_numpy(tensors[0])) <= BOUND["float32"]
    np.testing.assert_array_equal(parameters[1].data, start[1])
    assert ours.state[parameters[0]]["d"].shape == (6,)


def message(call):
    with pytest.raises(Exception) as caught:  # noqa: PT011 (type and text are compared)
        call()
    return type(caught.value), str(caught.value)


def with_another_group(make, new):
    optimizer = make([new()])
    optimizer.add_param_group({"params": [new()]})
    optimizer.step(lambda: 1.0)


def with_gradient(make, new, **options):
    optimizer = make([new()], **options)
    parameter = optimizer.param_groups[0]["params"][0]

    def closure():
        parameter.grad = new()
        return 1.0

    optimizer.step(closure)


ERRORS = {
    "negative lr": lambda make, new: make([new()], lr=-1.0),
    "lr NaN": lambda make, new: make([new()], lr=float("nan")),
    "lr None": lambda make, new: make([new()], lr=None),
    "groups": lambda make, new: make([{"params": [new()]}, {"params": [new()]}]),
    "added group": with_another_group,
    "empty": lambda make, new: make([]),
    "line search": lambda make, new: with_gradient(make, new, line_search_fn="armijo"),
    "no closure": lambda make, new: make([new()]).step(),
    "an argument too many": lambda make, new: make([new()], 1, 20, 25, 1e-7, 1e-9, 100, None, 0),
    "unknown option": lambda make, new: make([new()], momentum=0.9),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_torchs(name):
    expected = message(lambda: ERRORS[name](torch.optim.LBFGS, lambda: torch.ones(2)))
    assert message(lambda: ERRORS[name](LBFGS, lambda: jnp.ones(2))) == expected


def test_a_learning_rate_of_two_elements_is_refused():
    with pytest.raises(ValueError, match=r"^Tensor lr must be 1-element$"):
        LBFGS([jnp.ones(1)], lr=jnp.ones(2))
    run = Ours(rosenbrock, PROBLEMS["rosenbrock"][1]("float32"), lr=jnp.array([0.1]))
    number = Ours(rosenbrock, PROBLEMS["rosenbrock"][1]("float32"), lr=0.1)
    run.step()
    number.step()
    np.testing.assert_array_equal(run.params, number.params)


def test_defaults_and_group_keys_are_torchs():
    theirs = torch.optim.LBFGS([torch.ones(1)]).param_groups[0]
    ours = LBFGS([jnp.ones(1)]).param_groups[0]
    assert list(ours) == list(theirs)
    assert {**ours, "params": None} == {**theirs, "params": None}


BROKEN = {
    "missing": (lambda state: state.pop("ro"), "missing state 'ro'"),
    "unexpected": (lambda state: state.update(step=1), "unexpected state 'step'"),
    "shape": (lambda state: state.update(d=torch.ones(3)), r"'d' has shape \(3,\), but \(4,\)"),
    "no list": (lambda state: state.update(ro=1.0), "'ro' is a float, no list"),
    "lengths": (lambda state: state["ro"].pop(), "have different lengths"),
    "count": (lambda state: state.update(n_iter=-1), "'n_iter' is -1"),
    "in a list": (lambda state: state["old_dirs"].__setitem__(0, "x"), "'old_dirs' is a str"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_state_changes_nothing(name):
    start = PROBLEMS["rosenbrock"][1]("float32")
    theirs, ours = Torch(rosenbrock, start, lr=0.05), Ours(rosenbrock, start)
    theirs.step()
    broken = copy.deepcopy(theirs.optimizer.state_dict())
    change, expected = BROKEN[name]
    change(broken["state"][0])
    with pytest.raises(ValueError, match=expected):
        ours.optimizer.load_state_dict(broken)
    assert not ours.optimizer.state
    assert ours.optimizer.param_groups[0]["lr"] == 1


def test_a_state_of_another_parameter_is_refused():
    run = LBFGS([jnp.ones(1), jnp.ones(1)])
    broken = {**run.state_dict(), "state": {1: {"func_evals": 1, "n_iter": 0}}}
    with pytest.raises(ValueError, match="parameter 1: has a state, but no other than the first"):
        run.load_state_dict(broken)


def test_the_history_of_named_parameters_is_found_by_name_in_any_order():
    """Also where the first parameter, which has the state in torch, is another."""
    target = {"a": jnp.arange(2.0), "c": jnp.full(1, 2j, jnp.complex64), "b": jnp.full((1, 2), 3.0)}
    start = {"a": jnp.ones(2), "b": jnp.zeros((1, 2)), "c": jnp.zeros(1, jnp.complex64)}

    def loss(params):
        return sum(jnp.sum(jnp.abs(params[name] - target[name]) ** 4) for name in target)

    def step(optimizer):
        def closure():
            optimizer.zero_grad()
            return optimizer.backward(loss)

        optimizer.step(closure)

    first = LBFGS(start, lr=0.1, max_iter=3)
    step(first)
    saved, params = first.state_dict(), first.params
    step(first)
    for order in ("acb", "bca"):
        other = LBFGS({name: params[name] for name in order}, lr=0.1, max_iter=3)
        other.load_state_dict(saved)
        step(other)
        for name in order:
            np.testing.assert_allclose(other.params[name], first.params[name], rtol=1e-5)


def test_an_exception_in_the_closure_leaves_the_optimizer_as_it_was():
    run = Ours(rosenbrock, PROBLEMS["rosenbrock"][1]("float32"), **SEARCH)
    run.step()
    params, state = run.params, dict(run.state)
    evaluations = len(run.path)

    def interrupted():
        if len(run.path) == evaluations + 7:
            raise KeyboardInterrupt
        return run.closure()

    with pytest.raises(KeyboardInterrupt):
        run.optimizer.step(interrupted)
    np.testing.assert_array_equal(run.params, params)
    jax.tree.map(np.testing.assert_array_equal, dict(run.state), state)
    run.step()
    assert not np.array_equal(run.params, params)


def test_hooks_run_around_a_step():
    run = Ours(rosenbrock, PROBLEMS["rosenbrock"][1]("float32"), lr=0.1)
    seen = []
    run.optimizer.register_step_pre_hook(lambda *_: seen.append(run.params))
    run.optimizer.register_step_post_hook(lambda *_: seen.append(run.params))
    start = run.params
    run.step()
    np.testing.assert_array_equal(seen, [start, run.params])
    assert isinstance(run.optimizer, Optimizer)


def test_train_step_is_a_step_with_a_closure():
    start = PROBLEMS["network"][1]("float32")
    run, other = (Ours(regression, start, **SEARCH) for _ in range(2))
    loss = run.step()
    out, aux = other.optimizer.train_step(lambda params: (run.loss(params), 7.0), has_aux=True)
    assert (out, aux) == (loss, 7.0)
    np.testing.assert_array_equal(run.params, other.params)
    assert all(one.grad is None for one in other.optimizer.param_groups[0]["params"])


def test_there_is_no_chain():
    with pytest.raises(TypeError, match=r"torchwise\.lbfgs\(\)"):
        LBFGS([jnp.ones(1)]).to_functional()


def test_an_interrupt_leaves_a_step_whole_or_undone():
    """It is raised at lines of the library in turn: all of the last, some of those before."""

    def loss(params):
        return jnp.sum((params["w"] - 3.0) ** 2 * jnp.arange(1.0, 5.0)) + jnp.sum(params["b"] ** 4)

    def outcome(limit):
        optimizer = LBFGS({"w": jnp.ones(4), "b": jnp.ones(2)}, lr=0.1, max_iter=2)
        lines = itertools.count(1)

        def closure():
            optimizer.zero_grad()
            return optimizer.backward(loss)

        def interrupting(frame, event, _):
            if "torchwise" not in frame.f_code.co_filename:
                return None
            if event == "line" and next(lines) == limit:
                sys.settrace(None)
                raise KeyboardInterrupt
            return interrupting

        before, tracer = held(optimizer), sys.gettrace()
        sys.settrace(interrupting)
        try:
            optimizer.step(closure)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(tracer)
        return before, held(optimizer), next(lines) - 1

    def held(optimizer):
        state = optimizer.state_dict()["state"].get(0, {})
        params = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(optimizer.params)]
        return params, state.get("func_evals")

    before, after, total = outcome(0)
    assert before != after
    seen = [outcome(limit)[1] for limit in [*range(1, total, 20), *range(total - 50, total + 1)]]
    assert before in seen
    assert after in seen
    assert all(one in (before, after) for one in seen)
