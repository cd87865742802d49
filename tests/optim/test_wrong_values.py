"""What users write into parameters and states: refused where it is no array, or does not fit."""

import re

import jax
import numpy as np
import pytest
from interrupts import held

from torchwise import optim

ANEW = "; delete optimizer.state[parameter] to start it anew"
WRITTEN = {
    "['exp_avg'] has shape (5,), the parameter (2,)": ("exp_avg", np.ones(5, np.float32)),
    "['exp_avg'] is a str, no array": ("exp_avg", "x"),
    "['exp_avg_sq'] is None, no array": ("exp_avg_sq", None),
    "['step'] is 'x', but a count of steps is wanted": ("step", "x"),
    "['step'] is None, but a count of steps is wanted": ("step", None),
    "['step'] is -5, but a count of steps is wanted": ("step", -5),
}


@pytest.fixture(scope="module")
def adam():
    optimizer = optim.Adam({"w": np.ones(2, np.float32)}, lr=0.1)
    (parameter,) = optimizer.param_groups[0]["params"]
    parameter.grad = np.ones(2, np.float32)
    optimizer.step()
    optimizer.step()
    return optimizer, parameter


@pytest.mark.parametrize("text", WRITTEN)
def test_what_no_state_can_be(adam, text):
    optimizer, parameter = adam
    key, value = WRITTEN[text]
    kept, before = optimizer.state[parameter][key], np.asarray(parameter.data)
    optimizer.state[parameter][key] = value
    said = f"parameter 'w': optimizer.state[parameter]{text}{ANEW}"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        optimizer.step()
    np.testing.assert_array_equal(parameter.data, before)
    optimizer.state[parameter][key] = kept
    optimizer.step()


def test_states_of_other_shapes_go_on():
    """Adafactor's rows and columns, and the numbers of NAdam, come from a file as they are."""
    for make in (optim.Adafactor, optim.NAdam):
        optimizer = make({"w": np.ones((3, 2), np.float32)}, lr=0.1)
        (parameter,) = optimizer.param_groups[0]["params"]
        parameter.grad = np.ones((3, 2), np.float32)
        for _ in range(2):
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        optimizer.step()
        assert int(optimizer.state[parameter]["step"]) == 3


@pytest.mark.parametrize("value", [None, "x", [[1.0], [1.0, 2.0]], lambda x: x, {1: 2}])
def test_what_is_no_array(adam, value):
    optimizer, parameter = adam
    before = held(optimizer)
    text = "^an array of numbers is wanted, but got .*: pass one of JAX or NumPy$"
    with pytest.raises(TypeError, match=text):
        optim.Parameter(value)
    with pytest.raises(TypeError, match=text):
        parameter.data = value
    if value is not None:
        with pytest.raises(TypeError, match=text):
            parameter.grad = value
    assert held(optimizer) == before


def test_a_parameter_of_64_bits_keeps_them():
    """Where 64-bit types are off, a program would return one of 32, without a word."""
    with jax.enable_x64(True):
        optimizer = optim.SGD({"w": np.ones(2)}, lr=0.1, momentum=0.9)
        (parameter,) = optimizer.param_groups[0]["params"]
        parameter.grad = np.ones(2)
        optimizer.step()
        optimizer.step()
    with pytest.raises(RuntimeError, match=r"parameter 'w' is float64, but JAX's 64-bit types are"):
        optimizer.step()
    assert parameter.dtype == np.float64
    with jax.enable_x64(True):
        optimizer.step()
        assert float(parameter.data[0]) == pytest.approx(1 - 0.1 * (1 + 1.9 + 2.71), abs=1e-15)
