"""torch and torchwise driven by the same random sequence of operations."""

import copy

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import torch
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from distance import same_bits
from torch_oracle import correctly_rounded_sqrt, to_torch
from torchwise import optim

SHAPES = [(33,), (2, 3), (), (4,)]
FACES = {
    "SGD": (optim.SGD, torch.optim.SGD),
    "Adagrad": (optim.Adagrad, torch.optim.Adagrad),
}
SGD_VALUES = {
    "lr": st.sampled_from([0.0, 0.01, 0.1, 1.0 / 3.0]),
    "momentum": st.sampled_from([0, 0.5, 0.9]),
    "dampening": st.sampled_from([0, 0.1, 0.75]),
    "weight_decay": st.sampled_from([0, 0.01, 0.3]),
    "nesterov": st.booleans(),
    "maximize": st.booleans(),
}
ADAGRAD_VALUES = {
    "lr": SGD_VALUES["lr"],
    "lr_decay": st.sampled_from([0, 0.01, 1.0 / 3.0]),
    "weight_decay": SGD_VALUES["weight_decay"],
    "eps": st.sampled_from([1e-10, 1e-3]),
    "maximize": st.booleans(),
}
GROUP_SIZES = st.integers(1, 3)
SEEDS = st.integers(0, 2**32 - 1)


class Machine(RuleBasedStateMachine):
    """Each rule does the same on both sides; the invariant compares all that can be seen."""

    values: dict
    kind: str
    dtype: str

    @initialize(data=st.data(), size=GROUP_SIZES, seed=SEEDS)
    def construct(self, data, size, seed):
        self.rng = np.random.default_rng(seed)
        hyperparameters = {key: data.draw(values) for key, values in self.values.items()}
        if hyperparameters.get("nesterov"):
            hyperparameters |= {"momentum": 0.9, "dampening": 0}
        ours, theirs = self.new_arrays(size)
        self.ours = FACES[self.kind][0](ours, **hyperparameters)
        self.theirs = FACES[self.kind][1](theirs, **hyperparameters)
        self.saved = None

    def new_arrays(self, size):
        arrays = [
            np.asarray(self.rng.normal(size=SHAPES[index]), self.dtype) for index in range(size)
        ]
        return [jnp.asarray(a) for a in arrays], [to_torch(a).requires_grad_() for a in arrays]

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
        self.ours.step()
        self.theirs.step()

    @rule()
    def step_again(self):
        self.ours.step()
        self.theirs.step()

    @rule(data=st.data())
    def change_hyperparameter(self, data):
        index = data.draw(st.integers(0, len(self.ours.param_groups) - 1))
        key = data.draw(st.sampled_from(sorted(self.values)))
        value = data.draw(self.values[key])
        self.ours.param_groups[index][key] = value
        self.theirs.param_groups[index][key] = value

    @precondition(lambda self: len(self.ours.param_groups) < 3)
    @rule(data=st.data(), size=GROUP_SIZES)
    def add_group(self, data, size):
        ours, theirs = self.new_arrays(size)
        lr = data.draw(st.sampled_from([None, 0.05]))
        own = {} if lr is None else {"lr": lr}
        if self.ours.defaults.get("nesterov") is False:
            own |= {"dampening": 0.25}
        self.ours.add_param_group({"params": ours, **own})
        self.theirs.add_param_group({"params": theirs, **own})

    @rule(to_none=st.booleans())
    def zero_grad(self, to_none):
        self.ours.zero_grad(set_to_none=to_none)
        self.theirs.zero_grad(set_to_none=to_none)

    @rule()
    def save(self):
        # The deep copy: torch's dict is an alias of what the next step changes.
        self.saved = self.ours.state_dict(), copy.deepcopy(self.theirs.state_dict())

    @precondition(lambda self: self.saved and self.loadable())
    @rule()
    def load(self):
        self.ours.load_state_dict(self.saved[0])
        self.theirs.load_state_dict(copy.deepcopy(self.saved[1]))

    def loadable(self):
        """Nesterov with dampening, switched on through a group, is refused when loaded."""
        groups = self.saved[0]["param_groups"]
        wrong = [g.get("nesterov") and (g["dampening"] or not g["momentum"]) for g in groups]
        return len(groups) == len(self.ours.param_groups) and not any(wrong)

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


def run(kind, values, dtype):
    machine = type("Machine", (Machine,), {"kind": kind, "values": values, "dtype": dtype})
    case = machine.TestCase
    case.settings = settings(max_examples=50, stateful_step_count=15)
    case("runTest").runTest()


def test_sgd_to_the_bit(precision):
    run("SGD", SGD_VALUES, precision)


def test_adagrad_to_the_bit_with_correct_roots(precision):
    with correctly_rounded_sqrt():
        run("Adagrad", ADAGRAD_VALUES, precision)


def test_the_machine_sees_a_difference():
    """A wrong rule on one side must not go unnoticed."""
    machine = Machine()
    machine.kind, machine.values, machine.dtype = "SGD", {}, "float32"
    machine.rng = np.random.default_rng(0)
    ours, theirs = machine.new_arrays(2)
    machine.ours = optim.SGD(ours, lr=0.1, momentum=0.9)
    machine.theirs = torch.optim.SGD(theirs, lr=0.1, momentum=0.8)
    machine.saved = None
    grads = [np.ones(one.shape, np.float32) for one, _ in machine.pairs()]
    outcomes = []
    for _ in range(2):
        for (our, their), grad in zip(machine.pairs(), grads):
            our.grad, their.grad = grad, to_torch(grad)
        machine.step_again()
        outcomes.append(all(same_bits(a.data, b.detach().numpy()) for a, b in machine.pairs()))
    assert outcomes == [True, False]
    assert jax.tree.leaves(machine.ours.params)[0].shape == (33,)
