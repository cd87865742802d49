"""torch and torchwise driven by the same random sequence of operations."""

import copy
import inspect

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cases import OPTIMIZERS, SGD
from distance import same_bits
from torch_oracle import correctly_rounded_sqrt, to_torch
from torchwise import optim

SHAPES = [(33,), (2, 3), (), (4,)]
GROUP_SIZES = st.integers(1, 3)
SEEDS = st.integers(0, 2**32 - 1)


class Machine(RuleBasedStateMachine):
    """Each rule does the same on both sides; the invariant compares all that can be seen."""

    row = SGD
    dtype = "float32"

    @initialize(data=st.data(), size=GROUP_SIZES, seed=SEEDS)
    def construct(self, data, size, seed):
        hyperparameters = data.draw(self.row.random)
        self.build(hyperparameters, hyperparameters, size, seed)

    def build(self, of_ours, of_theirs, size, seed):
        self.rng = np.random.default_rng(seed)
        ours, theirs = self.new_arrays(size)
        self.ours = getattr(optim, self.row.stateful)(ours, **of_ours)
        self.theirs = self.row.theirs(theirs, **of_theirs)
        self.saved = None

    def new_arrays(self, size):
        arrays = [
            np.asarray(self.rng.normal(size=SHAPES[index]), self.dtype) for index in range(size)
        ]
        return [jnp.asarray(a) for a in arrays], [to_torch(a).requires_grad_() for a in arrays]

    def draw_for_a_group(self, data):
        chosen = data.draw(self.row.random)
        left_out = self.row.of_constructor
        return {key: value for key, value in chosen.items() if key not in left_out}

    def pairs(self):
        for ours, theirs in zip(self.ours.param_groups, self.theirs.param_groups, strict=True):
            yield from zip(ours["params"], theirs["params"], strict=True)

    @rule(data=st.data())
    def step(self, data):
        for ours, theirs in self.pairs():
            if data.draw(st.integers(0, 3)) == 0:
                ours.grad = theirs.grad = None
            else:
                grad = np.asarray(self.rng.normal(size=ours.shape), self.dtype)
                ours.grad, theirs.grad = grad, to_torch(grad)
        self.step_again()

    @rule()
    def step_again(self):
        """Where torch raises, it may have taken a part of the step, which is undone here."""
        before = copy.deepcopy(self.theirs)
        expected = outcome(self.theirs.step)
        if expected is not None:
            self.theirs = before
        assert outcome(self.ours.step) == expected

    @rule(data=st.data())
    def change_hyperparameters(self, data):
        """Some values of a good choice, next to which the others may be bad."""
        index = data.draw(st.integers(0, len(self.ours.param_groups) - 1))
        chosen = self.draw_for_a_group(data)
        for key in data.draw(st.sets(st.sampled_from(sorted(chosen)), min_size=1, max_size=3)):
            self.ours.param_groups[index][key] = chosen[key]
            self.theirs.param_groups[index][key] = chosen[key]

    @precondition(lambda self: len(self.ours.param_groups) < 3)
    @rule(data=st.data(), size=GROUP_SIZES)
    def add_group(self, data, size):
        ours, theirs = self.new_arrays(size)
        own = self.draw_for_a_group(data) if data.draw(st.booleans()) else {}
        self.ours.add_param_group({"params": ours, **own})
        self.theirs.add_param_group({"params": theirs, **own})

    @rule(to_none=st.booleans())
    def zero_grad(self, to_none):
        self.ours.zero_grad(set_to_none=to_none)
        self.theirs.zero_grad(set_to_none=to_none)

    @rule()
    def save(self):
        # The deep copy: torch's dict is an alias of what the next step changes.
        saved = self.ours.state_dict(), copy.deepcopy(self.theirs.state_dict())
        self.saved = saved if self.goes_on() else None

    def goes_on(self):
        """Whether torch takes the groups as they are, and could step from here.

        A dict of which that is not so is refused here, and loaded by torch.
        """
        trial = copy.deepcopy(self.theirs)
        keys = trial.defaults.keys() & inspect.signature(self.row.theirs).parameters.keys()
        for group in trial.param_groups:
            own = {key: group[key] for key in keys}
            params = [torch.zeros_like(tensor) for tensor in group["params"]]
            if outcome(lambda: self.row.theirs(params, **own)) is not None:  # noqa: B023
                return False
            for tensor in group["params"]:
                tensor.grad = torch.zeros_like(tensor)
        return outcome(trial.step) is None

    @precondition(lambda self: self.saved and self.loadable())
    @rule()
    def load(self):
        self.ours.load_state_dict(self.saved[0])
        self.theirs.load_state_dict(copy.deepcopy(self.saved[1]))

    def loadable(self):
        return len(self.saved[0]["param_groups"]) == len(self.ours.param_groups)

    @invariant()
    def same(self):
        if not hasattr(self, "ours"):
            return
        for ours, theirs in self.pairs():
            assert same_bits(ours.data, theirs.detach().numpy())
            assert (ours.grad is None) == (theirs.grad is None)
            assert ours.grad is None or same_bits(ours.grad, theirs.grad.numpy())
        ours, theirs = self.ours.state_dict(), self.theirs.state_dict()
        assert ours["param_groups"] == theirs["param_groups"]
        assert list(map(list, ours["param_groups"])) == list(map(list, theirs["param_groups"]))
        assert list(ours["state"]) == list(theirs["state"])
        for identity, entry in ours["state"].items():
            assert list(entry) == list(theirs["state"][identity])
            for key, value in entry.items():
                assert same_bits(value, theirs["state"][identity][key].numpy())


def outcome(call):
    """The type and the text of the exception that a call raises, or None."""
    try:
        call()
    except Exception as error:
        return type(error), str(error)
    return None


SLOW, EXHAUSTIVE = (pytest.mark.slow,), (pytest.mark.slow, pytest.mark.exhaustive)
RUNS = [
    pytest.param(row, "float32", id=f"{name} float32", marks=SLOW if index else ())
    for index, (name, row) in enumerate(OPTIMIZERS.items())
]
RUNS += [
    pytest.param(row, "float64", id=f"{name} float64", marks=EXHAUSTIVE if index else SLOW)
    for index, (name, row) in enumerate(OPTIMIZERS.items())
]


@pytest.mark.parametrize(("row", "dtype"), RUNS)
def test_equal_to_the_bit_with_correct_roots(row, dtype):
    machine = type("Machine", (Machine,), {"row": row, "dtype": dtype})
    case = machine.TestCase
    # Shrinking a failure takes minutes and compiles hundreds of programs.
    phases = [phase for phase in Phase if phase is not Phase.shrink]
    case.settings = settings(max_examples=10, stateful_step_count=12, phases=phases)
    with jax.enable_x64(dtype == "float64"), correctly_rounded_sqrt():
        case("runTest").runTest()


@pytest.mark.parametrize("row", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_machine_sees_a_difference(row):
    """A wrong number on one side must not go unnoticed."""
    machine = type("Machine", (Machine,), {"row": row})()
    lr = row.grid["lr"][0]
    machine.build({"lr": lr}, {"lr": 1.01 * lr}, 2, 0)
    outcomes = []
    for _ in range(2):
        outcomes.append(all(same_bits(a.data, b.detach().numpy()) for a, b in machine.pairs()))
        for our, their in machine.pairs():
            grad = np.ones(our.shape, np.float32)
            our.grad, their.grad = grad, to_torch(grad)
        machine.step_again()
    assert outcomes == [True, False]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "key", "later"),
    [
        pytest.param(row, key, values[-1], id=f"{name} {key}={values[-1]}")
        for name, row in OPTIMIZERS.items()
        for key, values in row.grid.items()
        if len(values) > 1
    ],
)
def test_a_hyperparameter_that_changes_after_a_step(row, key, later):
    """Also one without which the state was made: then both raise, and the machine goes on."""
    machine = type("Machine", (Machine,), {"row": row})()
    first = {name: values[0] for name, values in row.grid.items()}
    machine.build(first, first, 2, 0)
    for changed in (False, True):
        for side in (machine.ours, machine.theirs) if changed else ():
            side.param_groups[0][key] = later
        for our, their in machine.pairs():
            grad = np.asarray(machine.rng.normal(size=our.shape), np.float32)
            our.grad, their.grad = grad, to_torch(grad)
        with correctly_rounded_sqrt():
            machine.step_again()
        machine.same()
