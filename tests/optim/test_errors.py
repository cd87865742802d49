"""Wrong calls raise torch's exception with torch's text, and change nothing."""

import inspect

import jax.numpy as jnp
import pytest
import torch

from cases import OPTIMIZERS
from torchwise import optim

ROWS = pytest.mark.parametrize("row", OPTIMIZERS.values(), ids=OPTIMIZERS)


def ours(size=2):
    return jnp.ones(size)


def theirs(size=2):
    return torch.ones(size, requires_grad=True)


def message(call):
    with pytest.raises(Exception) as caught:  # noqa: PT011 (type and text are compared)
        call()
    text = str(caught.value)
    for name in ("torch.FloatTensor", "torch.Tensor", "jaxlib._jax.ArrayImpl", "ArrayImpl"):
        text = text.replace(name, "X")
    return type(caught.value), text


CONSTRUCTIONS = {
    "bare array": lambda make, new: make(new()),
    "empty": lambda make, new: make([]),
    "group no dict": lambda make, new: make([{"params": [new()]}, new()]),
    "set in a group": lambda make, new: make([{"params": {1}}]),
    "no params": lambda make, new: make([{"params": [new()]}, {"lr": 1.0}]),
    "some names": lambda make, new: make([("a", new()), new()]),
    "mixed names": lambda make, new: make([{"params": [("a", new())]}, {"params": [new()]}]),
    "mixed names 2": lambda make, new: make([{"params": [new()]}, {"params": [("a", new())]}]),
    "fused, differentiable": lambda make, new: make([new()], fused=True, differentiable=True),
    "fused, foreach": lambda make, new: make([new()], fused=True, foreach=True),
    "negative lr": lambda make, new: make([new()], lr=-1),
    "lr None": lambda make, new: make([new()], lr=None),
    "empty before fused": lambda make, new: make([], fused=True, foreach=True),
    "lr before empty": lambda make, new: make([], lr=-1.0),
}


@pytest.mark.parametrize("name", CONSTRUCTIONS)
@ROWS
def test_constructor_as_torch(row, name):
    construct = CONSTRUCTIONS[name]
    expected = message(lambda: construct(row.theirs, theirs))
    assert message(lambda: construct(getattr(optim, row.stateful), ours)) == expected


@ROWS
def test_a_positional_argument_too_many(row):
    parameters = inspect.signature(row.theirs).parameters.values()
    taken = [one.default for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD][1:]
    expected = message(lambda: row.theirs([theirs()], *taken, True))
    assert "positional arguments but" in expected[1]
    assert message(lambda: getattr(optim, row.stateful)([ours()], *taken, True)) == expected


def test_a_parameter_in_two_groups():
    shared = theirs()
    expected = message(lambda: torch.optim.SGD([{"params": [shared]}, {"params": [shared]}]))
    holder, array = optim.Parameter(ours()), ours()
    for one in (holder, array):
        assert message(lambda: optim.SGD([{"params": [one]}, {"params": [one]}])) == expected  # noqa: B023
    with pytest.raises(ValueError, match="duplicate parameters"):
        optim.SGD([holder, holder])


def test_a_refused_group_leaves_the_optimizer_alone():
    optimizer = optim.SGD({"w": ours()}, lr=0.1)
    before = repr(optimizer), optimizer.state_dict(), len(optimizer.params)
    group = {"params": {"b": ours()}, "momentum": -1.0}
    with pytest.raises(ValueError, match=r"Invalid momentum value: -1\.0"):
        optimizer.add_param_group(group)
    with pytest.raises(ValueError, match="without names"):
        optimizer.add_param_group({"params": [ours()]})
    assert (repr(optimizer), optimizer.state_dict(), len(optimizer.params)) == before
    assert list(group) == ["params", "momentum"]


@ROWS
def test_repr_as_torch(row):
    lr = row.grid["lr"][0]
    found = repr(getattr(optim, row.stateful)([ours()], lr=lr))
    assert found == repr(row.theirs([theirs()], lr=lr))
