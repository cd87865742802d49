"""Both forms of L-BFGS take the path of torch.optim.LBFGS; bounds are explained in `lbfgs_runs`."""

import contextlib
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from distance import ulps_apart
from lbfgs_runs import (
    BOUND,
    OPTIONS,
    PROBLEMS,
    SEARCH,
    STEPS,
    Ours,
    Torch,
    apart,
    counts,
    joined,
    rosenbrock,
)
from torch_oracle import correctly_rounded_sqrt
from torchwise.optim.lbfgs import LBFGS
from torchwise.optim.parameter import Parameter
from torchwise.quasi_newton.lbfgs import lbfgs


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_the_path_is_torchs(problem, options, precision):
    loss, start = problem
    theirs = Torch(loss, start(precision), **options)
    ours = Ours(loss, start(precision), **options)
    pure, params = lbfgs(**options), list(map(jnp.asarray, start(precision)))
    state = pure.init(params)
    value_and_grad = jax.value_and_grad(lambda params: loss(jnp, params))
    step = jax.jit(lambda state, params: pure.step(value_and_grad, state, params))
    for _ in range(STEPS[precision]):
        first, expected = ours.step(), theirs.step()
        assert float(first) == pytest.approx(expected.item(), rel=BOUND[precision])
        params, state = step(state, params)
        assert counts(ours.state) == counts(theirs.state) == counts(state._asdict())
        assert len(ours.path) == len(theirs.path)
        assert apart(ours.path, theirs.path) <= BOUND[precision]
        assert apart(ours.params, theirs.params) <= BOUND[precision]
        assert apart(joined(params), theirs.params) <= BOUND[precision]
    assert list(ours.state) == list(theirs.state)
    for key in ("al", "old_dirs", "old_stps", "ro"):
        assert len(ours.state[key]) == len(theirs.state[key])
    assert [one is None for one in ours.state["al"]] == [one is None for one in theirs.state["al"]]


def wave(seed):
    """A loss of one parameter and its derivative, with many minima and with a forbidden region."""
    rng = np.random.default_rng(seed)
    height, pace, shift = rng.normal(size=5) * 3, rng.uniform(0.2, 9, size=5), rng.normal(size=5)
    bowl, wall = rng.uniform(0.01, 0.5), rng.choice([np.nan, np.inf])
    edge = rng.uniform(0.5, 20)

    def loss_and_slope(x):
        if abs(x) > edge:
            return wall, wall
        phase = pace * x + shift
        loss = bowl * x * x + np.sum(height * list(map(math.sin, phase)))
        return loss, 2 * bowl * x + np.sum(height * pace * list(map(math.cos, phase)))

    return loss_and_slope, {
        "lr": float(rng.choice([1, 0.01, 5.0])),
        "max_iter": int(rng.integers(1, 20)),
        "history_size": int(rng.integers(1, 5)),
    }


def on_the_wave(seed, options):
    """Return the paths of torch's and of our optimizer, and their counts."""
    loss_and_slope, drawn = wave(seed)
    tensor, parameter = torch.zeros(1, dtype=torch.float64), Parameter(np.zeros(1))
    theirs = torch.optim.LBFGS([tensor], **drawn, **options)
    ours = LBFGS([parameter], **drawn, **options)
    paths = [], []

    def their_closure():
        paths[0].append(tensor.item())
        loss, slope = loss_and_slope(tensor.item())
        tensor.grad = torch.tensor([slope], dtype=torch.float64)
        return loss

    def our_closure():
        paths[1].append(parameter.data.item())
        loss, slope = loss_and_slope(parameter.data.item())
        parameter.grad = jnp.array([slope])
        return loss

    for _ in range(3):
        theirs.step(their_closure)
        ours.step(our_closure)
    return paths, (counts(theirs.state[tensor]), counts(ours.state[parameter]))


@contextlib.contextmanager
def correctly_rounded_quotients(monkeypatch):
    """torch takes a number divided by a tensor for two roundings, and roots from MKL."""
    module = sys.modules[torch.optim.LBFGS.__module__]
    original = module._cubic_interpolate

    def interpolate(*points, bounds=None):
        tensors = [torch.as_tensor(number, dtype=torch.float64) for number in points]
        return original(*tensors, bounds=bounds)

    monkeypatch.setattr(module, "_cubic_interpolate", interpolate)
    with correctly_rounded_sqrt():
        yield


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, SEARCH], ids=["fixed", "search"])
def test_every_turn_of_the_line_search(options, monkeypatch):
    """With one parameter a dot product is a product, and the paths are equal to the bit."""
    with jax.enable_x64(True), correctly_rounded_quotients(monkeypatch):
        for seed in range(60):
            (theirs, ours), (expected, counted) = on_the_wave(seed, options)
            np.testing.assert_array_equal(ours, theirs, err_msg=f"seed {seed}")
            assert counted == expected, seed


EXITS = {
    "gradient at once": {"tolerance_grad": 1e9},
    "gradient later": {"tolerance_grad": 3.0},
    "parameters": {"tolerance_change": 0.01},
    "slope": {"tolerance_change": 1e9},
    "loss": {"tolerance_change": 0.1, "lr": 1e-3},
    "evaluations": {"max_eval": 3},
    "evaluations, search": {**SEARCH, "max_eval": 4},
    "one iteration": {"max_iter": 1},
    "one iteration, search": {**SEARCH, "max_iter": 1},
    "gradient later, search": {**SEARCH, "tolerance_grad": 3.0},
    "parameters, search": {**SEARCH, "tolerance_change": 0.01},
    "learning rate zero": {"lr": 0},
}


@pytest.mark.parametrize("options", EXITS.values(), ids=EXITS)
def test_a_step_ends_where_torchs_does(options):
    options = {"lr": 0.05, **options}
    with jax.enable_x64(True):
        start = PROBLEMS["rosenbrock"][1]("float64")
        theirs, ours = (run(rosenbrock, start, **options) for run in (Torch, Ours))
        for _ in range(3):
            theirs.step()
            ours.step()
            assert counts(ours.state) == counts(theirs.state)
            assert list(ours.state) == list(theirs.state)
            assert apart(ours.params, theirs.params) <= BOUND["float64"]


def test_hyperparameters_are_data():
    """A jitted step that takes them compiles once; so do the pieces of the stateful form."""
    traces = []

    def loss(params):
        traces.append(params)
        return rosenbrock(jnp, params)

    @jax.jit
    def step(optimizer, state, params):
        return optimizer.step(jax.value_and_grad(loss), state, params)

    params = list(map(jnp.asarray, PROBLEMS["rosenbrock"][1]("float32")))
    first = lbfgs(lr=0.1, max_eval=20)
    step(first, first.init(params), params)
    traced = len(traces)
    _, state = step(lbfgs(lr=0.2, max_iter=3, max_eval=20), first.init(params), params)
    assert len(traces) == traced
    assert int(state.n_iter) == 3


def test_a_step_may_be_scanned():
    optimizer = lbfgs(lr=0.1)
    params = list(map(jnp.asarray, PROBLEMS["rosenbrock"][1]("float32")))
    value_and_grad = jax.value_and_grad(lambda params: rosenbrock(jnp, params))

    def body(carry, _):
        params, state = optimizer.step(value_and_grad, *carry[::-1])
        return (params, state), state.prev_loss

    start = (params, optimizer.init(params))
    (scanned, _), losses = jax.lax.scan(body, start, length=3)
    assert losses[0] > losses[1] > losses[2]
    run = Ours(rosenbrock, params, lr=0.1)
    for _ in range(3):
        run.step()
    assert ulps_apart(joined(scanned), run.params) < 2**10


def test_the_pure_form_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match=r"^Invalid learning rate: -1$"):
        lbfgs(lr=-1)
    with pytest.raises(ValueError, match=r"^history_size must be at least 1, but it is 0$"):
        lbfgs(history_size=0).init(jnp.ones(1))
    optimizer = lbfgs(line_search_fn="armijo")
    with pytest.raises(RuntimeError, match=r"^only 'strong_wolfe' is supported$"):
        optimizer.step(jax.value_and_grad(jnp.sum), optimizer.init(jnp.ones(1)), jnp.ones(1))
