"""Bad hyperparameters raise torch's exception with torch's text; torch itself says which."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import torchwise

BAD_SGD = [
    {"lr": -1.0},
    {"momentum": -0.1},
    {"weight_decay": -1e-9},
    {"nesterov": True},
    {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
    {"lr": None},
    {"lr": "a"},
    {"lr": -1.0, "momentum": -1.0},
]
BAD_ADAGRAD = [
    {"lr": -1.0},
    {"lr": float("nan")},
    {"lr_decay": -0.1},
    {"weight_decay": -0.1},
    {"initial_accumulator_value": -1.0},
    {"eps": -1e-10},
    {"eps": float("nan")},
]
GOOD_SGD = [{"lr": float("nan")}, {"momentum": 1.5}, {"dampening": -2.0}, {"lr": 0.0}]


def outcome(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except Exception as error:
        return type(error), str(error)
    return None


@pytest.mark.parametrize(
    ("ours", "theirs", "hyperparameters"),
    [(torchwise.sgd, torch.optim.SGD, bad) for bad in BAD_SGD + GOOD_SGD]
    + [(torchwise.adagrad, torch.optim.Adagrad, bad) for bad in BAD_ADAGRAD],
)
def test_as_torch(ours, theirs, hyperparameters):
    expected = outcome(theirs, [torch.zeros(1)], **hyperparameters)
    assert outcome(ours, **hyperparameters) == expected
    assert (expected is None) == (hyperparameters in GOOD_SGD)


def test_arrays_are_checked_too():
    with pytest.raises(ValueError, match="Tensor lr must be 1-element"):
        torchwise.sgd(jnp.ones(2))
    with pytest.raises(ValueError, match=r"Invalid momentum value: -0\.5"):
        torchwise.sgd(momentum=jnp.asarray(-0.5))
    params = jnp.ones(3)
    transform = torchwise.sgd(np.full((1, 1), 0.5, np.float32))
    updates, _ = transform.update(params, transform.init(params), params)
    np.testing.assert_array_equal(updates, -0.5)


def test_chain_refuses_other_transformations():
    import optax

    with pytest.raises(TypeError, match=r"argument 1 .* GradientTransformation.*optax\.chain"):
        torchwise.chain(torchwise.trace(0.9), optax.clip(1.0))
