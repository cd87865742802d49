"""A run goes on in optax, and comes back, as if it had stayed in torch."""

import math
import re
from typing import Any, NamedTuple

import equinox as eqx
import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
import torch

import torchwise
from functional_run import draw
from torch_oracle import TorchRun
from torchwise import structure
from torchwise.optax_states.conversion import from_optax_state, to_optax_state
from torchwise.optax_states.counterparts import COUNTERPARTS, WITHOUT_COUNTERPART
from torchwise.rules import RULES

SHAPES = {"b": (4,), "s": (), "w": (3, 4)}
STEPS = 40
LARGE = 1e-6  # a distance that no rounding of float64 makes in 40 steps


class Row(NamedTuple):
    """An optimizer's options, and how far optax may be from torch.

    The distance is relative: to the way that the parameters have gone, or to the largest element
    of a state. Roundings alone make about 1e-15.
    """

    name: str
    options: dict[str, Any]
    bound: float = 1e-13
    schedule: bool = False  # a rate that changes at every step
    counts: bool = True  # whether optax's state has a count


DECAY = {"weight_decay": 0.013}
ROWS = [
    Row("SGD", {"lr": 0.1}, counts=False),
    Row("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, **DECAY}, counts=False),
    Row("SGD", {"lr": 0.1, "momentum": 0.9, "maximize": True, **DECAY}, counts=False),
    Row("SGD", {"lr": 0.1, "momentum": 0.9}, schedule=True),
    Row("SGD", {"lr": 0.1, "dampening": 0.5}, counts=False),  # without momentum it has no effect
    Row("Adagrad", {"eps": 0.0}, counts=False),
    Row("Adagrad", {"eps": 0.0, "initial_accumulator_value": 0.2, **DECAY}, counts=False),
    Row("Adagrad", {"lr": 0.1, "eps": 0.0, "lr_decay": 0.05, "maximize": True}),
    Row("Adagrad", {"lr": 0.1, "eps": 0.0, "lr_decay": 0.05}, schedule=True),
    Row("RMSprop", {"eps": 1e-3}, counts=False),
    Row("RMSprop", {"centered": True, "maximize": True, **DECAY}, counts=False),
    Row("RMSprop", {"momentum": 0.9}, counts=False),
    Row("RMSprop", {"momentum": 0.9, "centered": True, "alpha": 0.6, **DECAY}, counts=False),
    Row("RMSprop", {"centered": True}, schedule=True),
    Row("Adam", {"lr": 0.01}),
    Row("Adam", {"lr": 0.01, "betas": (0.3, 0.5), "eps": 1e-3, "maximize": True, **DECAY}),
    Row("Adam", {"lr": 0.01, "decoupled_weight_decay": True, **DECAY}),
    Row("Adam", {"lr": 0.01, **DECAY}, schedule=True),
    Row("AdamW", {"lr": 0.01}),
    Row("AdamW", {"lr": 0.01, "weight_decay": 0.3, "maximize": True}),
    Row("AdamW", {"lr": 0.01, "weight_decay": 0.0}),
    Row("AdamW", {"lr": 0.01, "weight_decay": 0.3}, schedule=True),
    Row("Adamax", {"lr": 0.01}),
    Row("Adamax", {"lr": 0.01, "betas": (0.3, 0.5), "eps": 1e-3, "maximize": True, **DECAY}),
    Row("Adamax", {"lr": 0.01}, schedule=True),
    Row("Adadelta", {}, counts=False),
    Row("Adadelta", {"lr": 0.5, "rho": 0.6, "eps": 1e-3, "maximize": True, **DECAY}, counts=False),
    Row("Adadelta", {"lr": 0.5}, schedule=True),
    # torch rounds the product of its momenta to float32.
    Row("NAdam", {"lr": 0.01, "momentum_decay": 1e3}, bound=1e-6),
    Row("NAdam", {"lr": 0.01, "momentum_decay": 1e9, "maximize": True, **DECAY}, bound=1e-6),
    Row(
        "NAdam",
        {"lr": 0.01, "momentum_decay": 1e3, "decoupled_weight_decay": True, **DECAY},
        bound=1e-6,
    ),
    Row("NAdam", {"lr": 0.01, "momentum_decay": 1e3}, bound=1e-6, schedule=True),
    Row("RAdam", {"lr": 0.01, "eps": 0.0}),
    Row("RAdam", {"lr": 0.01, "eps": 0.0, "maximize": True, **DECAY}),
    Row("RAdam", {"lr": 0.01, "eps": 0.0, "decoupled_weight_decay": True, **DECAY}),
    Row("RAdam", {"lr": 0.01, "eps": 0.0, "betas": (0.5, 0.6)}),  # it is never rectified
    Row("RAdam", {"lr": 0.01, "eps": 0.0}, schedule=True),
]
FIRST = list({row.name: row for row in reversed(ROWS)}.values())  # of each optimizer


def each(rows):
    """Rows as parameters of a test; all but the first of an optimizer are slow."""
    return pytest.mark.parametrize(
        "row",
        [
            pytest.param(
                row,
                id=f"{row.name}-{index}",
                marks=() if row in FIRST else pytest.mark.slow,
            )
            for index, row in enumerate(rows)
        ],
    )


EACH = each(ROWS)


@pytest.fixture(autouse=True)
def _optax_conditions():
    """float64; and optax does not run with strict promotion."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield


class Problem:
    """Parameters, and gradients that depend on them."""

    def __init__(self, dtype="float64", names=tuple(SHAPES)):
        rng = np.random.default_rng(5)
        shapes = [SHAPES[name] for name in names]
        self.start = dict(zip(names, draw(rng, shapes, dtype)))
        self.noise = [dict(zip(names, draw(rng, shapes, dtype))) for _ in range(STEPS)]

    def grads(self, step, params):
        return {key: self.noise[step][key] + 0.3 * np.tanh(params[key]) for key in self.start}

    @property
    def params(self):
        return jax.tree.map(jnp.asarray, self.start)

    def torch_run(self, name, schedule=False, steps=STEPS, **options):
        run = TorchRun(getattr(torch.optim, name), [*self.start.values()], **options)
        self.continued(run, range(steps), schedule)
        return run

    def continued(self, run, steps, schedule=False):
        base = [group["lr"] for group in run.optimizer.param_groups]
        for step in steps:
            for group, lr in zip(run.optimizer.param_groups, base):
                group["lr"] = lr * factor(step) if schedule else lr
            run.step([*self.grads(step, dict(zip(self.start, run.params))).values()])

    def run(self, step_of, params, state, steps):
        """Step with a function of gradients, state and parameters."""
        step_of = jax.jit(step_of)
        for step in steps:
            grads = self.grads(step, jax.tree.map(np.asarray, params))
            params, state = step_of(jax.tree.map(jnp.asarray, grads), state, params)
        return params, state


def factor(step):
    """A rate that changes sixfold, up and down."""
    return 1 + 2.5 * (1 + math.sin(step))


def ours(row):
    """Our chain."""
    lr = row.options.get("lr", 0.01)
    options = {**row.options, "lr": rate_of(lr)} if row.schedule else row.options
    return getattr(torchwise, row.name.lower())(**options)


def rate_of(lr):
    return lambda count: lr * (1 + 2.5 * (1 + jnp.sin(count.astype("float64"))))


def theirs(problem, row, steps=STEPS):
    options = {**row.options, "lr": row.options.get("lr", 0.01)} if row.schedule else row.options
    return problem.torch_run(row.name, row.schedule, steps, **options)


def stepped(optimizer):
    """A step of optax."""

    def step(grads, state, params):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def distance(params, run, problem):
    """The largest difference, over the longest way that an element has gone in torch."""
    reached = dict(zip(problem.start, run.params))
    gone = max(np.max(np.abs(reached[key] - problem.start[key])) for key in reached)
    return max(np.max(np.abs(np.asarray(params[key]) - reached[key])) for key in reached) / gone


def assert_near_torch(params, state, run, problem, row):
    assert distance(params, run, problem) <= row.bound
    held = {key: tree for part in state.states for key, tree in part._asdict().items()}
    for key, tree in held.items():
        if tree is None:
            continue
        for name, theirs in zip(SHAPES, run.states(key)):
            apart = np.max(np.abs(np.asarray(tree[name]) - theirs))
            assert apart <= row.bound * np.max(np.abs(theirs)), (key, name, apart)
    if state.step is not None and run.states("step")[0] is not None:
        assert int(state.step) == run.states("step")[0]


@EACH
def test_a_run_goes_on_in_optax(row):
    problem, transform = Problem(), ours(row)
    params = problem.params
    params, state = problem.run(transform.step, params, transform.init(params), range(20))
    optimizer, optax_state = to_optax_state(transform, state, params)
    assert jax.tree.structure(optax_state) == jax.tree.structure(optimizer.init(params))
    params, optax_state = problem.run(stepped(optimizer), params, optax_state, range(20, 40))
    step = None if row.counts else 40
    state = from_optax_state(transform, optax_state, params, step=step)
    assert_near_torch(params, state, theirs(problem, row), problem, row)


@EACH
def test_a_run_comes_back_from_optax(row):
    problem, transform = Problem(), ours(row)
    params = problem.params
    optimizer, _ = to_optax_state(transform, transform.init(params), params)
    optax_state = optimizer.init(params)
    params, optax_state = problem.run(stepped(optimizer), params, optax_state, range(20))
    step = None if row.counts else 20
    state = from_optax_state(transform, optax_state, params, step=step)
    params, state = problem.run(transform.step, params, state, range(20, 40))
    assert_near_torch(params, state, theirs(problem, row), problem, row)


@EACH
def test_states_before_the_first_gradient_are_equal(row):
    transform, params = ours(row), Problem().params
    optimizer, optax_state = to_optax_state(transform, transform.init(params), params)
    jax.tree.map(np.testing.assert_array_equal, optax_state, optimizer.init(params))
    step = None if row.counts else 0
    state = from_optax_state(transform, optimizer.init(params), params, step=step)
    jax.tree.map(np.testing.assert_array_equal, state, transform.init(params))


@EACH
def test_there_and_back(row):
    problem, transform = Problem(), ours(row)
    params = problem.params
    params, state = problem.run(transform.step, params, transform.init(params), range(3))
    _, optax_state = to_optax_state(transform, state, params)
    back = from_optax_state(transform, optax_state, params, step=state.step)
    assert structure.difference(back, state) is None
    # RMSprop's buffer is multiplied by the rate and divided by it.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=4e-16), back, state)


@each([row for row in ROWS if not row.schedule])
def test_dicts_of_torch_go_through_optax_and_back(row):
    """10 steps of torch, 10 of optax, 10 of torch, against 30 of torch."""
    problem = Problem()
    run = theirs(problem, row, 10)
    params = dict(zip(SHAPES, map(jnp.asarray, run.params)))
    transform, state = torchwise.from_state_dict(
        run.optimizer.state_dict(), params, optimizer=row.name
    )
    optimizer, optax_state = to_optax_state(transform, state, params)
    params, optax_state = problem.run(stepped(optimizer), params, optax_state, range(10, 20))
    step = None if row.counts else 20
    state = from_optax_state(transform, optax_state, params, step=step)
    state_dict = torchwise.to_state_dict(transform, state, params)
    again = TorchRun(getattr(torch.optim, row.name), [*map(np.asarray, params.values())])
    again.optimizer.load_state_dict(jax.tree.map(_tensor, state_dict))
    problem.continued(again, range(20, 30))
    params = dict(zip(SHAPES, again.params))
    assert distance(params, theirs(problem, row, 30), problem) <= row.bound


def _tensor(value):
    return torch.from_numpy(np.array(value)) if hasattr(value, "shape") else value


@each([row._replace(bound=3e-4 if row.name == "RAdam" else 1e-5) for row in FIRST])
def test_float32_without_types_of_64_bits(row):
    """optax raises betas to their powers, and takes the length of RAdam's memory, in float32."""
    problem, transform = Problem("float32"), ours(row)
    with jax.enable_x64(False):
        params = problem.params
        params, state = problem.run(transform.step, params, transform.init(params), range(20))
        optimizer, optax_state = to_optax_state(transform, state, params)
        params, _ = problem.run(stepped(optimizer), params, optax_state, range(20, 40))
    assert all(leaf.dtype == "float32" for leaf in params.values())
    assert distance(params, theirs(problem, row), problem) <= row.bound


class Refused(NamedTuple):
    """An optimizer that optax has not; and what comes nearest, whose distance is to be large."""

    name: str
    options: dict[str, Any]
    text: str
    nearest: Any = None
    far: float = LARGE
    changes: bool = False  # whether the rate does
    names: tuple[str, ...] = tuple(SHAPES)  # of the parameters


MUON = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=0)
REFUSED = [
    Refused(
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.3},
        r"dampening=0.3: optax has none; it would add whole gradients to the momentum buffer",
        lambda: optax.sgd(0.1, 0.9),
        far=0.1,
    ),
    Refused(
        "Adagrad",
        {"eps": 1e-3},
        r"eps=0.001: torch divides by sqrt\(sum\) \+ eps, optax by sqrt\(sum \+ eps\); elements",
        lambda: optax.adagrad(0.01, 0.0, 1e-3),
        far=1e-4,
    ),
    Refused(
        "RMSprop",
        {"momentum": 0.9},
        r"momentum=0.9 with a schedule: optax's momentum buffer takes up steps that are multiplied",
        lambda: optax.rmsprop(rate_of(0.01), 0.99, eps_in_sqrt=False, momentum=0.9),
        far=0.01,
        changes=True,
    ),
    Refused(
        "RMSprop",
        {"momentum": 0.9, "lr": 0.0},
        r"momentum=0.9 with lr=0: optax's momentum buffer is torch's times the rate; nothing would",
    ),
    Refused(
        "Adam",
        {"lr": 0.01, "amsgrad": True},
        r"amsgrad=True: torch takes the largest average of squares and corrects it",
        lambda: optax.amsgrad(0.01),
        far=0.1,
    ),
    Refused("AdamW", {"amsgrad": True}, "amsgrad=True: torch takes the largest average"),
    Refused(
        "NAdam",
        {"lr": 0.01},
        r"momentum_decay=0.004: optax.nadam has no momentum schedule: its mu is betas\[0\]",
        lambda: optax.nadam(0.01),
        far=0.01,
    ),
    Refused(
        "RAdam",
        {"lr": 0.01, "eps": 1e-3},
        r"eps=0.001: torch adds eps to the root of the average of squares before it is corrected",
        lambda: optax.radam(0.01, eps=1e-3),
        far=1e-4,
    ),
    Refused("ASGD", {}, "optax has no such function"),
    Refused(
        "Rprop",
        {},
        "optax.rprop applies the step that it made at the gradient before",
        lambda: optax.rprop(0.01),
        far=0.01,
    ),
    Refused(
        "Adafactor",
        {},
        "optax.adafactor adds a constant to the squared gradient, where torch has a lower bound",
        lambda: optax.adafactor(lambda t: jnp.minimum(0.01, 1 / jnp.sqrt(t + 1.0)), 1),
        far=1e-9,
    ),
    Refused(
        "Muon",
        {"weight_decay": 0.0},
        "optax.contrib.muon corrects the average of gradients and orthogonalizes it in",
        lambda: optax.contrib.muon(1e-3, muon_weight_dimension_numbers={"w": MUON}),
        far=1e-4,
        names=("w",),
    ),
]
EACH_REFUSED = pytest.mark.parametrize(
    "case", REFUSED, ids=[f"{case.name}-{index}" for index, case in enumerate(REFUSED)]
)


@EACH_REFUSED
def test_differences_are_refused_by_name(case):
    params = {"w": jnp.ones((2, 2))}
    options = {**case.options, "lr": rate_of(0.01)} if case.changes else case.options
    transform = getattr(torchwise, case.name.lower())(**options)
    state = transform.init(params)
    start = re.escape(f"optax has no equal formula for {transform!r}:") + r"\n  "
    with pytest.raises(ValueError, match=rf"to_optax_state\(\): {start}{case.text}"):
        to_optax_state(transform, state, params)
    with pytest.raises(ValueError, match=rf"from_optax_state\(\): {start}{case.text}"):
        from_optax_state(transform, optax.adam(0.1).init(params), params)


@pytest.mark.parametrize(
    "case", [case for case in REFUSED if case.nearest], ids=lambda case: case.name
)
def test_what_is_refused_differs(case):
    problem, optimizer = Problem(names=case.names), case.nearest()
    options = {**case.options, "lr": 0.01} if case.changes else case.options
    run = problem.torch_run(case.name, case.changes, **options)
    params = problem.params
    params, _ = problem.run(stepped(optimizer), params, optimizer.init(params), range(STEPS))
    apart = distance(params, run, problem)
    assert apart > case.far, apart


def test_every_optimizer_has_an_answer():
    assert COUNTERPARTS.keys() | WITHOUT_COUNTERPART.keys() == {rule.name for rule in RULES}
    assert not COUNTERPARTS.keys() & WITHOUT_COUNTERPART.keys()
    assert COUNTERPARTS.keys() == {row.name for row in ROWS}


def test_all_differences_are_named_at_once():
    params = {"w": jnp.ones(2, "complex128")}
    clipped = torchwise.chain(torchwise.clip_each_by_norm(1.0), torchwise.adam(amsgrad=True))
    with pytest.raises(ValueError, match=r"ClipEachByNorm(.|\n)*amsgrad(.|\n)*complex parameters"):
        to_optax_state(clipped, clipped.init(params), params)


def test_blocks_in_front_are_refused():
    transform = torchwise.chain(torchwise.clip_each_by_norm(1.0), torchwise.sgd())
    params = {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match="blocks that torch does not have; convert the chain with"):
        to_optax_state(transform, transform.init(params), params)


def test_chains_of_blocks_are_optimizers():
    params = {"w": jnp.zeros(2)}
    transform = torchwise.chain(torchwise.trace(0.5), torchwise.scale_by_learning_rate(0.5))
    optimizer, _ = to_optax_state(transform, transform.init(params), params)
    grads = {"w": jnp.ones(2)}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_array_equal(updates["w"], [-0.5, -0.5])
    transform = torchwise.chain(torchwise.trace(0.5), torchwise.scale(2.0))
    with pytest.raises(ValueError, match=r"is none of torch's optimizers"):
        to_optax_state(transform, transform.init(params), params)


@pytest.mark.parametrize("name", [name for name in COUNTERPARTS if name != "SGD"])
def test_complex_parameters_are_refused(name):
    transform = getattr(torchwise, name.lower())(eps=0.0)
    params = {"a": jnp.ones(1), "c": jnp.ones(2, "complex128")}
    with pytest.raises(ValueError, match=r"complex parameters \['c'\]: torch takes the real"):
        to_optax_state(transform, transform.init(params), params)


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_only_sgd_takes_complex_numbers_as_torch_does(name):
    """The distance that the refusal above is about; Adamax has an eps in optax and torch."""
    problem = Problem("complex128")
    options = {"eps": 0.0} if name in ("Adagrad", "RAdam") else {}
    options |= {"momentum": 0.9} if name == "SGD" else {}
    options |= {"momentum_decay": 1e3} if name == "NAdam" else {}
    row = Row(name, options)
    template = ours(row)
    optimizer, _ = to_optax_state(template, template.init({}), {})
    run, params = theirs(problem, row), problem.params
    params, _ = problem.run(stepped(optimizer), params, optimizer.init(params), range(STEPS))
    apart = distance(params, run, problem)
    assert (apart < 1e-13) if name == "SGD" else (apart > 0.01), apart


def per_parameter(transform, counts, params):
    transform = torchwise.chain(transform, per_parameter_steps=True)
    state = transform.init(params)
    for step in range(max(counts)):
        grads = [jnp.ones(1) if step < count else None for count in counts]
        _, state = transform.step(grads, state, params)
    return transform, state


def test_different_counts_are_refused_by_name():
    params = [jnp.ones(1)] * 3
    transform, state = per_parameter(torchwise.adam(), (2, 1, 2), params)
    message = (
        r"optax counts gradients once for all parameters, but these have seen different numbers of "
        r"them, and would be corrected as one: 2: \[0\], \[2\]; 1: \[1\]"
    )
    with pytest.raises(ValueError, match=message):
        to_optax_state(transform, state, params)


def test_equal_counts_of_parameters_are_one():
    params = [jnp.ones(1)] * 2
    transform, state = per_parameter(torchwise.adam(), (2, 2), params)
    _, optax_state = to_optax_state(transform, state, params)
    assert optax_state[0].count == 2
    assert from_optax_state(transform, optax_state, params).step == [2, 2]


def test_counts_that_optax_does_not_need_may_differ():
    params = [jnp.ones(1)] * 2
    transform, state = per_parameter(torchwise.rmsprop(), (2, 1), params)
    _, optax_state = to_optax_state(transform, state, params)
    assert from_optax_state(transform, optax_state, params, step=[2, 1]).step == [2, 1]
    assert from_optax_state(transform, optax_state, params, step=2).step == [2, 2]
    with pytest.raises(ValueError, match=r"step must be a number, or a tree PyTreeDef\(\[\*, \*\]"):
        from_optax_state(transform, optax_state, params, step=[1, 2, 3])


def test_a_step_that_nobody_knows_is_asked_for():
    transform, params = torchwise.rmsprop(), {"w": jnp.ones(2)}
    optimizer, optax_state = to_optax_state(transform, transform.init(params), params)
    with pytest.raises(ValueError, match=r"torch counts gradients here and optax does not: pass s"):
        from_optax_state(transform, optimizer.init(params), params)
    assert from_optax_state(transform, optax_state, params, step=7).step == 7


def test_counts_that_contradict_are_refused():
    transform, params = torchwise.adam(lr=rate_of(0.1)), {"w": jnp.ones(2)}
    _, (adam, schedule) = to_optax_state(transform, transform.init(params), params)
    with pytest.raises(ValueError, match=r"step is 7, but optax has counted 0"):
        from_optax_state(transform, (adam, schedule), params, step=7)
    schedule = schedule._replace(count=jnp.asarray(3, jnp.int32))
    with pytest.raises(ValueError, match=r"the counts in optax's state differ: \[0, 3\]"):
        from_optax_state(transform, (adam, schedule), params)


def test_states_of_others_are_refused():
    transform, params = torchwise.adam(), {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"to_optax_state\(\): the state is not that of these pa"):
        to_optax_state(transform, torchwise.sgd().init(params), params)
    with pytest.raises(ValueError, match=r"from_optax_state\(\): the state is not that of these p"):
        from_optax_state(transform, optax.sgd(0.1).init(params), params)
    with pytest.raises(ValueError, match=r"is float64\[3\], but expected float64\[2\]"):
        from_optax_state(transform, optax.adam(0.1).init({"w": jnp.ones(3)}), params)


def test_what_is_no_chain_is_refused():
    params = jnp.ones(1)
    message = r"to_optax_state\(\) needs a torchwise chain, or what from_state_dict\(\) returned"
    with pytest.raises(TypeError, match=message):
        to_optax_state(optax.adam(0.1), optax.adam(0.1).init(params), params)


def test_several_groups_are_refused():
    tensors = [torch.ones(1, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.Adam([{"params": [tensor]} for tensor in tensors])
    params = [jnp.ones(1), jnp.ones(1)]
    transform, state = torchwise.from_state_dict(optimizer.state_dict(), params)
    with pytest.raises(
        ValueError, match="the transform has 2 groups; convert each of its `chains`"
    ):
        to_optax_state(transform, state, params)


def test_parameters_may_be_called_as_optax_calls_its_states():
    params = {"mu": jnp.ones(1), "nu": jnp.full(1, 2.0), "count": jnp.full(1, 3.0)}
    transform = torchwise.adam()
    _, state = transform.step(params, transform.init(params), params)
    _, optax_state = to_optax_state(transform, state, params)
    assert jax.tree.map(jnp.sum, optax_state[0].mu) == pytest.approx(
        {"mu": 0.1, "nu": 0.2, "count": 0.3}
    )
    back = from_optax_state(transform, optax_state, params)
    jax.tree.map(np.testing.assert_array_equal, back, state)


def test_arrays_as_hyperparameters_do_not_decide_types():
    lr, momentum = jnp.asarray(0.5, "float32"), np.float64(0.5)
    transform, params = torchwise.sgd(lr=lr, momentum=momentum), jnp.ones(2, "bfloat16")
    with jax.numpy_dtype_promotion("strict"):
        optimizer, state = to_optax_state(transform, transform.init(params), params)
        updates, state = optimizer.update(params, state, params)
    assert updates.dtype == state[0].trace.dtype == "bfloat16"


def test_the_state_of_optax_can_be_donated():
    transform, params = torchwise.adam(lr=rate_of(0.1)), {"w": jnp.ones(2)}
    optimizer, optax_state = to_optax_state(transform, transform.init(params), params)
    step = jax.jit(stepped(optimizer), donate_argnums=1)
    assert step(params, optax_state, params)[1][1].count == 1


class Module(eqx.Module):
    weight: jax.Array
    activation: Any


def test_modules():
    """Whole Equinox modules are refused, as by to_state_dict; those of NNX are arrays alone."""
    module, transform = Module(jnp.ones(2), jax.nn.relu), torchwise.adam(0.1)
    arrays = eqx.filter(module, eqx.is_inexact_array)
    state = transform.init(arrays)
    _, optax_state = to_optax_state(transform, state, arrays)
    text = (
        r"_optax_state\(\): params has leaves that are no arrays \(\.activation is \w+\): pass the "
        r"arrays alone, as eqx\.filter\(model, eqx\.is_inexact_array\) of an Equinox module$"
    )
    with pytest.raises(TypeError, match="^to" + text):
        to_optax_state(transform, transform.init(module), module)
    with pytest.raises(TypeError, match="^from" + text):
        from_optax_state(transform, optax_state, module)
    linear = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    held = transform.init(linear)
    back = from_optax_state(transform, to_optax_state(transform, held, linear)[1], linear)
    assert jax.tree.structure(back) == jax.tree.structure(held)


def test_wrong_arguments():
    params, transform = jnp.ones(2), torchwise.adam(0.1)
    state = transform.init(params)
    saved = torchwise.to_state_dict(transform, state, params)
    order = r"call to_optax_state\(transform, state, params\)"
    none = "the state is {}, not one that init"
    for given, error, text in (
        ((transform, state, None), ValueError, f"params is None: {order}, with a tree of arrays"),
        ((transform, params, state), TypeError, f"params is a state: {order}$"),
        ((transform, None, params), ValueError, none.format("None")),
        ((transform, saved, params), ValueError, none.format("a dict") + r".*from_state_dict\("),
        ((params, state, params), TypeError, ""),
    ):
        with pytest.raises(error, match=rf"^to_optax_state\(\).*{text}"):
            to_optax_state(*given)
    rmsprop = torchwise.rmsprop(0.1)
    _, optax_state = to_optax_state(rmsprop, rmsprop.init(params), params)
    with pytest.raises(ValueError, match=r"^from_optax_state\(\): step must be a number, or a"):
        from_optax_state(rmsprop, optax_state, params, step="many")
