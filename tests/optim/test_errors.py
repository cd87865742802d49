"""Wrong calls raise torch's exception with torch's text, and change nothing."""

import jax.numpy as jnp
import pytest
import torch

from torchwise import optim

FACES = [(optim.SGD, torch.optim.SGD), (optim.Adagrad, torch.optim.Adagrad)]


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
    "bare array": lambda face, new: face(new()),
    "empty": lambda face, new: face([]),
    "group no dict": lambda face, new: face([{"params": [new()]}, new()]),
    "set in a group": lambda face, new: face([{"params": {1}}]),
    "no params": lambda face, new: face([{"params": [new()]}, {"lr": 1.0}]),
    "some names": lambda face, new: face([("a", new()), new()]),
    "mixed names": lambda face, new: face([{"params": [("a", new())]}, {"params": [new()]}]),
    "mixed names 2": lambda face, new: face([{"params": [new()]}, {"params": [("a", new())]}]),
    "fused, differentiable": lambda face, new: face([new()], fused=True, differentiable=True),
    "fused, foreach": lambda face, new: face([new()], fused=True, foreach=True),
    "negative lr": lambda face, new: face([new()], lr=-1),
    "lr None": lambda face, new: face([new()], lr=None),
    "empty before fused": lambda face, new: face([], fused=True, foreach=True),
    "lr before empty": lambda face, new: face([], lr=-1.0),
}


@pytest.mark.parametrize("name", CONSTRUCTIONS)
@pytest.mark.parametrize(("our_face", "their_face"), FACES)
def test_constructor_as_torch(name, our_face, their_face):
    construct = CONSTRUCTIONS[name]
    expected = message(lambda: construct(their_face, theirs))
    assert message(lambda: construct(our_face, ours)) == expected


@pytest.mark.parametrize("kwargs", [{"momentum": -1}, {"weight_decay": -1}, {"nesterov": True}])
def test_sgd_hyperparameters_as_torch(kwargs):
    expected = message(lambda: torch.optim.SGD([theirs()], **kwargs))
    assert message(lambda: optim.SGD([ours()], **kwargs)) == expected


def test_positional_arguments_as_torch():
    arguments = (0.1, 0.9, 0, 0, False, True)
    expected = message(lambda: torch.optim.SGD([theirs()], *arguments))
    assert message(lambda: optim.SGD([ours()], *arguments)) == expected


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


def test_sets_hold_no_order():
    for face, group in ((optim.SGD, {"params": {1}}), (torch.optim.SGD, {"params": {1}})):
        with pytest.raises(TypeError, match="organized in ordered collections"):
            face([group])


def test_repr_as_torch():
    for our_face, their_face in FACES:
        assert repr(our_face([ours()], lr=0.5)) == repr(their_face([theirs()], lr=0.5))
