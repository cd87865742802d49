"""What a step works out once for many steps is what it would work out anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from torchwise import dragon, optim
from torchwise.numbers import joined, split
from torchwise.optim.prepared import Prepared
from torchwise.rules.scale_by_learning_rate import ScaleByLearningRate

OPTIONS = {
    "SGD": {"momentum": 0.1, "weight_decay": 0.1, "dampening": 0.1},  # all of them as the rate
    "RMSprop": {"momentum": 0.9, "centered": True, "weight_decay": 0.1},
    "Adagrad": {"lr_decay": 0.1},
    "Adam": {"weight_decay": 0.1, "amsgrad": True},
}
NAMES = (
    *("SGD", "Adagrad", "Adam", "RMSprop", "AdamW", "Adamax", "Adadelta", "NAdam", "RAdam"),
    *("ASGD", "Rprop", "Adafactor", "SparseAdam", "Muon"),
)


def makers():
    for name in NAMES:
        yield (
            name,
            lambda name=name: getattr(optim, name)(
                [jnp.ones((2, 2))], lr=0.1, **OPTIONS.get(name, {})
            ),
        )
    for mult in (None, 1.0, 2.0):
        group = {"params": [jnp.ones((2, 2))], **({} if mult is None else {"lr_mult": mult})}
        yield f"Dragon {mult}", lambda group=group: dragon.SGD([group], lr=0.1, momentum=0.9)


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in makers()])
def test_a_rule_at_another_rate_is_as_if_made_anew(make):
    optimizer = make()
    (group,) = optimizer.param_groups
    rates = (0.1, 0.2, 0.3, 1e-3, 0.0, 1, np.float32(0.1), 0.5, 0.1, float("inf"), 0.7)
    for rate in rates:
        group["lr"] = rate
        found, anew = optimizer._preparations.of(group, 1), Prepared(optimizer._rule(group))
        assert found.structure == anew.structure
        assert found.rule == anew.rule
        for step in (1, 2, 7):
            numbers = found.numbers(step), anew.numbers(step)
            assert repr(numbers[0]) == repr(numbers[1]), (rate, step)
    changed = [key for key in ("momentum", "weight_decay", "eps") if type(group.get(key)) is float]
    for key in changed:
        group[key] = 0.25
        for rate in (0.3, 0.4, 0.5):
            group["lr"] = rate
            found, anew = optimizer._preparations.of(group, 1), Prepared(optimizer._rule(group))
            assert repr(found.numbers(3)) == repr(anew.numbers(3))


class Halved(ScaleByLearningRate):
    """A rule of a user's own, whose parts are not at its rate."""

    group_keys = ("lr",)

    def parts(self):
        return (ScaleByLearningRate(min(self.lr, 0.5)),)


def test_a_rule_of_ones_own_may_do_with_the_rate_what_it_wants():
    class Own(optim.Optimizer):
        rule = Halved

    optimizer = Own([jnp.zeros(1)], lr=0.125)
    (group,), (parameter,) = optimizer.param_groups, optimizer.param_groups[0]["params"]
    parameter.grad = jnp.ones(1)
    for rate in (0.125, 0.25, 0.5, 2.0):
        group["lr"] = rate
        before = float(parameter.data[0])
        optimizer.step()
        assert before - float(parameter.data[0]) == min(rate, 0.5)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}])
def test_a_step_gives_up_the_array_of_the_step_before(options):
    """Without a state, too: a copy of every parameter would cost as much as the step."""
    optimizer = optim.SGD({"w": np.ones(2, np.float32)}, lr=0.1, **options)
    (parameter,) = optimizer.param_groups[0]["params"]
    parameter.grad = np.ones(2, np.float32)
    for _ in range(2):
        optimizer.step()
    old = parameter.own_array
    optimizer.step()
    assert old.is_deleted()


def test_a_deleted_state_begins_anew_and_no_other_array_is_lost():
    params = {"a": np.ones(2, np.float32), "b": np.ones(2, np.float32)}
    optimizer = optim.Adam(params, lr=0.1)
    first, second = optimizer.param_groups[0]["params"]
    for _ in range(3):
        for parameter in (first, second):
            parameter.grad = np.ones(2, np.float32)
        optimizer.step()
    del optimizer.state[first]
    optimizer.step()
    assert [int(optimizer.state[one]["step"]) for one in (first, second)] == [1, 4]
    assert list(optimizer.state[first]) == ["step", "exp_avg", "exp_avg_sq"]


# Numbers on their way to the device.


def test_numbers_arrive_as_they_are():
    values = [0.1, -0.0, 0.0, 1e-8, 1 / 3, -2.5, 1e30, 0.999]
    assert list(map(repr, map(float, joined(split(values))))) == list(map(repr, values))
    odd = [float("inf"), float("-inf"), float("nan"), 0.1]
    assert repr([float(one) for one in joined(split(odd))]) == repr(odd)


def test_a_number_below_float32_counts_in_float64():
    """0 / (0 + 1e-60) is 0, and 0 / 0 is not."""
    theirs = torch.ones(2, dtype=torch.float64, requires_grad=True)
    oracle = torch.optim.Adagrad([theirs], lr=1e-50, eps=1e-60)
    theirs.grad = torch.tensor([0.0, 1e-60], dtype=torch.float64)
    oracle.step()
    with jax.enable_x64(True):
        optimizer = optim.Adagrad([np.ones(2)], lr=1e-50, eps=1e-60)
        (parameter,) = optimizer.param_groups[0]["params"]
        parameter.grad = np.array([0.0, 1e-60])
        optimizer.step()
        np.testing.assert_array_equal(parameter.data, theirs.detach().numpy())


def test_a_rate_of_zero_leaves_the_sign_of_zero():
    theirs = torch.tensor([-0.0, 0.0], requires_grad=True)
    theirs.grad = torch.ones(2)
    torch.optim.SGD([theirs], lr=0.0).step()
    optimizer = optim.SGD([np.array([-0.0, 0.0], np.float32)], lr=0.0)
    (parameter,) = optimizer.param_groups[0]["params"]
    parameter.grad = np.ones(2, np.float32)
    optimizer.step()
    assert np.asarray(parameter.data).tobytes() == theirs.detach().numpy().tobytes()
