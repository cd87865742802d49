"""dragon.SGD: groups, and what it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest

from torchwise import dragon, optim
from torchwise.optim import Parameter


def test_multipliers_and_rates_may_be_arrays():
    group = {"params": [jnp.ones(1)], "lr_mult": jnp.asarray(2.0), "decay_mult": np.asarray(0.5)}
    optimizer = dragon.SGD([group], jnp.asarray(0.25), weight_decay=0.5)
    optimizer.train_step(lambda params: jnp.sum(params[0][0]))
    np.testing.assert_array_equal(optimizer.params[0][0], [1 - 0.5 * 1.25])


def test_a_group_brings_its_own_rate_and_keeps_its_name():
    group = {"params": [jnp.ones(1)], "lr": 0.5, "name": "weights"}
    optimizer = dragon.SGD([group])
    optimizer.add_param_group({"params": Parameter(jnp.ones(1)), "lr": 0.25})
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25]
    assert [group.get("name") for group in optimizer.param_groups] == ["weights", None]


ONE = jnp.ones(1)
NESTEROV = "^Nesterov momentum requires a momentum and zero dampening$"
REQUIRED = "^parameter group didn't specify a value of required optimization parameter lr$"
FIXED = "^momentum_correction is that of the constructor and cannot differ by group$"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"params": ONE}, TypeError, "should be an iterable"),
        ({"params": []}, ValueError, "^optimizer got an empty parameter list$"),
        ({"params": [ONE], "lr": None}, ValueError, REQUIRED),
        ({"lr": -0.1}, ValueError, r"^Invalid learning rate: -0\.1$"),
        ({"momentum": -0.1}, ValueError, r"^Invalid momentum value: -0\.1$"),
        ({"weight_decay": -0.1}, ValueError, r"^Invalid weight_decay value: -0\.1$"),
        ({"nesterov": True}, ValueError, NESTEROV),
        ({"nesterov": True, "momentum": 0.9, "dampening": 0.1}, ValueError, NESTEROV),
    ],
)
def test_the_constructor_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        dragon.SGD(**{"params": [ONE], "lr": 0.1, **arguments})


@pytest.mark.parametrize(
    ("group", "error", "message"),
    [
        ([ONE], TypeError, "^param_group must be a dict"),
        ({"params": {1.0, 2.0}}, TypeError, "ordered collections"),
        (
            {"params": [Parameter(jnp.ones(1), requires_grad=False)]},
            ValueError,
            "^a parameter does not require a gradient$",
        ),
        ({"params": [jnp.ones(1)], "lr": None}, ValueError, REQUIRED),
        ({"params": [jnp.ones(1)], "lr": -1}, ValueError, "^Invalid learning rate: -1$"),
        ({"params": [jnp.ones(1)], "lr_mult": -1}, ValueError, "^Invalid lr_mult value: -1$"),
        ({"params": [jnp.ones(1)], "decay_mult": -1}, ValueError, "^Invalid decay_mult value: -1$"),
        ({"params": [jnp.ones(1)], "nesterov": True}, ValueError, NESTEROV),
        ({"params": [jnp.ones(1)], "momentum_correction": True}, ValueError, FIXED),
        ({"params": [ONE]}, ValueError, "^some parameters appear in more than one"),
    ],
)
def test_a_group_is_refused_and_nothing_has_changed(group, error, message):
    optimizer = dragon.SGD([ONE], 0.1)
    with pytest.raises(error, match=message):
        optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1
    optimizer.train_step(lambda params: jnp.sum(params[0]))
    np.testing.assert_allclose(optimizer.params, [[0.9]], rtol=1e-7)


def test_it_is_an_optimizer_whose_step_takes_no_closure():
    optimizer = dragon.SGD([ONE], 0.1)
    assert isinstance(optimizer, optim.Optimizer)
    with pytest.raises(TypeError, match="positional argument"):
        optimizer.step(lambda: None)
