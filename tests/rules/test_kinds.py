"""Hyperparameters of the wrong kind: one line that names them, beside what torch says."""

import re

import jax
import jax.numpy as jnp
import pytest

import torchwise
from torchwise import optim

TWO = jnp.ones(2)
# Those that torch takes, and fails at its first step; or would compare in an error without a name.
WRONG = {
    "sgd(): dampening is 'abc', but a number is wanted": ("SGD", {"dampening": "abc"}),
    "sgd(): momentum is an array of shape (2,), but a number is wanted": ("SGD", {"momentum": TWO}),
    "sgd(): maximize is an array of shape (2,), but a single value is wanted": (
        "SGD",
        {"maximize": TWO},
    ),
    "asgd(): lambd is None, but a number is wanted": ("ASGD", {"lambd": None}),
    "asgd(): t0 is [1.0], but a number is wanted": ("ASGD", {"t0": [1.0]}),
    "asgd(): alpha is 1j, but a number is wanted": ("ASGD", {"alpha": 1j}),
    "rprop(): step_sizes is (1e-06,), but a tuple of 2 numbers is wanted": (
        "Rprop",
        {"step_sizes": (1e-6,)},
    ),
    "muon(): eps is 'abc', but a number is wanted": ("Muon", {"eps": "abc"}),
    "muon(): ns_coefficients is 3.0, but a tuple of 3 numbers is wanted": (
        "Muon",
        {"ns_coefficients": 3.0},
    ),
    "lbfgs(): max_iter is 'abc', but a number is wanted": ("LBFGS", {"max_iter": "abc"}),
    "lbfgs(): tolerance_grad is None, but a number is wanted": ("LBFGS", {"tolerance_grad": None}),
}


@pytest.mark.parametrize("text", WRONG)
def test_the_wrong_kind_is_named(text):
    name, options = WRONG[text]
    with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
        getattr(torchwise, name.lower())(**options)
    stateful = text.replace(name.lower(), name, 1)
    params = [jnp.ones((2, 2))]
    (key,) = options
    if not (key == "maximize" or text.startswith("sgd(): momentum")):  # which have torch's text
        with pytest.raises(TypeError, match=f"^{re.escape(stateful)}$"):
            getattr(optim, name)(params, **options)
    optimizer = getattr(optim, name)(params)
    saved = optimizer.state_dict()
    saved["param_groups"][0].update(options)
    with pytest.raises(ValueError, match=r"load_state_dict\(\) changed nothing, because"):
        optimizer.load_state_dict(saved)


@pytest.mark.parametrize("value", ["a", None, {}, [0.1]])
@pytest.mark.parametrize("name", ["SGD", "Adam", "Adadelta"])
def test_what_torch_compares_is_named_in_a_note(name, value):
    for call, made in (
        (f"{name.lower()}()", getattr(torchwise, name.lower())),
        (f"{name}()", lambda lr: getattr(optim, name)([jnp.ones(2)], lr=lr)),
    ):
        with pytest.raises(TypeError) as caught:
            made(lr=value)
        found = (*getattr(caught.value, "__notes__", ()), str(caught.value))
        assert any(f"{call}: lr is " in text and "but a number is wanted" in text for text in found)


def test_what_numbers_may_be():
    torchwise.adam(lr=jnp.ones(1), betas=[0.5, 0.75], eps=jnp.ones((1, 1)))
    torchwise.adafactor(eps=(None, 1e-3))
    torchwise.sgd(lr=lambda count: 0.1, momentum=lambda count: 0.5)
    jax.jit(lambda rate: torchwise.sgd(rate, dampening=rate).init(rate))(jnp.ones(()))


# L-BFGS in pure form.

LBFGS = torchwise.lbfgs(max_iter=2)
PARAMS = {"w": jnp.ones(2)}
STATE = LBFGS.init(PARAMS)
EVALUATE = jax.value_and_grad(lambda params: jnp.sum(params["w"] ** 2))
ORDER = "call step(value_and_grad_fn, state, params)"
CALLS = {
    "init(): params has leaves that are no float or complex arrays (['f'] is str, ['n'] is float): "
    "pass those alone, as eqx.filter(model, eqx.is_inexact_array) of an Equinox module": (
        TypeError,
        lambda: LBFGS.init({**PARAMS, "f": "relu", "n": 0.5}),
    ),
    "init(): there is no array in params, which is None": (TypeError, lambda: LBFGS.init(None)),
    f"step(): params is a state: {ORDER}": (TypeError, lambda: LBFGS.step(EVALUATE, PARAMS, STATE)),
    f"step(): the state is None, not one that init(params) returned: {ORDER}": (
        TypeError,
        lambda: LBFGS.step(EVALUATE, None, PARAMS),
    ),
    "step(): the first argument is an array, not the function that returns the loss and its "
    f"gradients, as jax.value_and_grad(loss): {ORDER}": (
        TypeError,
        lambda: LBFGS.step(jnp.ones(()), STATE, PARAMS),
    ),
    "step(): value_and_grad_fn returned an array, not (loss, gradients): pass "
    "jax.value_and_grad(loss)": (
        TypeError,
        lambda: LBFGS.step(lambda params: jnp.sum(params["w"] ** 2), STATE, PARAMS),
    ),
    "step(): value_and_grad_fn returned gradients of another structure: (the whole tree) is a list "
    "in the gradients, a dict in params": (
        ValueError,
        lambda: LBFGS.step(lambda params: (jnp.ones(()), [params["w"]]), STATE, PARAMS),
    ),
    "step(): the gradient of ['w'] has shape (1,), the parameter (2,)": (
        ValueError,
        lambda: LBFGS.step(lambda params: (jnp.ones(()), {"w": jnp.ones(1)}), STATE, PARAMS),
    ),
}


@pytest.mark.parametrize("text", CALLS)
def test_wrong_arguments_of_lbfgs(text):
    kind, call = CALLS[text]
    with pytest.raises(kind, match=f"^{re.escape(text)}$"):
        call()
