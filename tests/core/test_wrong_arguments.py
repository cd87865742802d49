"""Wrong arguments of pure functions: one sentence that names them, and what to pass."""

import functools
import re

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax.core import FrozenDict

import torchwise

PARAMS = {"b": jnp.ones(2), "layer": {"w": jnp.ones((2, 3))}}
FROZEN = FrozenDict({"b": jnp.ones(2), "layer": {"w": jnp.ones((2, 3))}})
SGD = torchwise.sgd(0.1, momentum=0.9)
ADAM = torchwise.adam(0.1)
EACH = torchwise.chain(ADAM, per_parameter_steps=True)
SAVED = torchwise.to_state_dict(SGD, SGD.init(PARAMS), PARAMS)


def in_two_groups():
    (group,) = SAVED["param_groups"]
    groups = [
        {**group, "params": [index], "param_names": [name]}
        for index, name in enumerate(group["param_names"])
    ]
    return torchwise.from_state_dict({**SAVED, "param_groups": groups}, PARAMS)


GROUPS, GROUPS_STATE = in_two_groups()
NOT_ONE = "the state is not one that init() of this transform returned, but "
ANOTHER = (
    "the state is that of another transform: {}, not one that init() of this transform returned"
)
GIVEN = ": call step(grads, state, params) with what init(params) returned"
WRONG_STATES = {
    "another optimizer": (
        SGD,
        ADAM.init(PARAMS),
        f"{ANOTHER.format('(AdamState)')}, which has (TraceState, Empty){GIVEN}",
    ),
    "nothing": (SGD, None, f"{NOT_ONE}None{GIVEN}"),
    "parameters": (SGD, PARAMS, f"{NOT_ONE}a dict{GIVEN}"),
    "an array": (SGD, jnp.ones(2), f"{NOT_ONE}an array{GIVEN}"),
    "groups": (SGD, GROUPS_STATE, f"{NOT_ONE}a PartitionState{GIVEN}"),
    "optax": (SGD, optax.sgd(0.1, 0.9).init(PARAMS), f"{NOT_ONE}a tuple{GIVEN}"),
    "a state dict": (
        SGD,
        SAVED,
        "the state is a state dict of torch, not one that init() of this transform returned: "
        "from_state_dict(state_dict, params) returns a transform and its state",
    ),
    "another container": (
        SGD,
        SGD.init(FROZEN),
        "the state was made for other parameters: (the whole tree) is a FrozenDict in the state, "
        "a dict in params; pass params as init(params) got them",
    ),
    "fewer parameters": (
        SGD,
        SGD.init({"b": PARAMS["b"], "layer": {}}),
        "the state was made for other parameters: ['layer']['w'] is in params, but not in the "
        "state; pass params as init(params) got them",
    ),
    "more parameters": (
        SGD,
        SGD.init({**PARAMS, "more": jnp.ones(1)}),
        "the state was made for other parameters: ['more'] is in the state, but not in params; "
        "pass params as init(params) got them",
    ),
    "another shape": (
        SGD,
        SGD.init({**PARAMS, "b": jnp.ones(3)}),
        "the state does not fit; init(params) makes one that does:\n"
        "  ['b']: 'momentum_buffer' has shape (3,), but the parameter has (2,)",
    ),
    "a count for each": (
        ADAM,
        EACH.init(PARAMS),
        "the state counts the steps of each parameter, the transform once for all: wrap it as "
        "torchwise.chain(transform, per_parameter_steps=True)",
    ),
    "one count for all": (
        EACH,
        ADAM.init(PARAMS),
        "the step of the state is an array, but the transform counts the steps of each parameter: "
        "pass what init(params) of this transform returned",
    ),
    "no count": (
        torchwise.sgd(lambda count: 0.1),
        torchwise.sgd(0.1).init(PARAMS),
        "the state has no step, but the transform counts steps, as a schedule does: pass a state "
        "that its own init(params) made; groups behind a block do not count for it: give the block "
        "a number, or an array that changes between steps",
    ),
    "one chain for groups": (
        GROUPS,
        SGD.init(PARAMS),
        f"{ANOTHER.format('(TraceState, Empty)')}, which has 2 groups{GIVEN}",
    ),
    "nothing for groups": (GROUPS, None, f"{NOT_ONE}None, which has 2 groups{GIVEN}"),
}


@pytest.mark.parametrize("name", WRONG_STATES)
def test_wrong_states(name):
    transform, state, text = WRONG_STATES[name]
    for call in ("step", "update"):
        said = re.escape(f"{call}(): {text}".replace("call step(", f"call {call}("))
        with pytest.raises(ValueError, match=f"^{said}$"):
            getattr(transform, call)(PARAMS, state, PARAMS)


ORDER = "call step(grads, state, params)"
DIFFER = (
    "step(): gradients and parameters differ in structure; pass grads as jax.grad returns them for "
    "these params:\n  "
)
TRANSFORMS = {"chain": (SGD, SGD.init(PARAMS)), "groups": (GROUPS, GROUPS_STATE)}
WRONG_TREES = {
    "no parameters": ((PARAMS, None), ValueError, f"step() needs the parameters: {ORDER}"),
    "no gradients": (
        (None, PARAMS),
        ValueError,
        f"step(): grads is None: {ORDER}, with None for single parameters alone",
    ),
    "a state first": (
        (SGD.init(PARAMS), PARAMS),
        TypeError,
        f"step(): grads is a state: {ORDER}",
    ),
    "a state last": ((PARAMS, SGD.init(PARAMS)), TypeError, f"step(): params is a state: {ORDER}"),
    "a loss function": (
        (lambda params: 0.0, PARAMS),
        TypeError,
        f"step(): grads is a function without arrays: {ORDER}",
    ),
    "a torch module": (
        (PARAMS, torch.nn.Linear(2, 2)),
        TypeError,
        f"step(): params is a Linear without arrays: {ORDER}",
    ),
    "a class": (
        (PARAMS, flax.linen.Dense),
        TypeError,
        f"step(): params is the class Dense without arrays: {ORDER}",
    ),
    "other parameters": (
        (PARAMS, FROZEN),
        ValueError,
        f"{DIFFER}(the whole tree) is a dict in grads, a FrozenDict in params",
    ),
    "other gradients": (
        (FROZEN, PARAMS),
        ValueError,
        f"{DIFFER}(the whole tree) is a FrozenDict in grads, a dict in params",
    ),
    "a value": (
        (jnp.ones(()), PARAMS),
        ValueError,
        f"{DIFFER}['b']: no gradient for a parameter of shape (2,)\n  ['layer']['w']: no gradient "
        "for a parameter of shape (2, 3)\n  (the whole tree): a gradient of shape (), but no "
        "parameter",
    ),
}


@pytest.mark.parametrize("kind", TRANSFORMS)
@pytest.mark.parametrize("name", WRONG_TREES)
def test_wrong_trees(kind, name):
    transform, state = TRANSFORMS[kind]
    (grads, params), error, text = WRONG_TREES[name]
    for call in ("step", "update"):
        said = re.escape(text.replace("step(", f"{call}("))
        with pytest.raises(error, match=f"^{said}$"):
            getattr(transform, call)(grads, state, params)


@pytest.mark.parametrize(
    ("params", "error", "text"),
    [
        (None, ValueError, "params is None: pass a tree of arrays, the parameters"),
        (
            SGD.init(PARAMS),
            TypeError,
            "params is a state: pass a tree of arrays, the parameters",
        ),
        (
            torch.nn.Linear(2, 2),
            TypeError,
            "there is no array in params, which is a Linear: pass a tree of arrays",
        ),
        (
            flax.linen.Dense,
            TypeError,
            "there is no array in params, which is the class Dense: pass a tree of arrays",
        ),
        (
            {"name": "relu"},
            TypeError,
            "there is no array in params, which is a dict: pass a tree of arrays",
        ),
    ],
)
def test_init_of_no_parameters(params, error, text):
    with pytest.raises(error, match=f"^{re.escape(f'init(): {text}')}$"):
        SGD.init(params)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (None, "(the whole tree) is a dict in the groups, None in params"),
        (FROZEN, "(the whole tree) is a dict in the groups, a FrozenDict in params"),
        ({"b": PARAMS["b"]}, "['layer'] is in the groups, but not in params"),
    ],
)
def test_init_of_groups_for_other_parameters(params, text):
    text = (
        f"init(): the groups were made for other parameters: {text}; pass params as "
        "from_state_dict(state_dict, params) got them"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        GROUPS.init(params)


def test_groups_without_a_state_are_those_of_their_parameters():
    """Nothing but the groups tells that these leaves are others."""
    group = torch.optim.SGD([torch.ones(1)], 0.5).state_dict()["param_groups"][0]
    groups = [{**group, "params": [0]}, {**group, "params": [1], "lr": 0.25}]
    params = [jnp.ones(1), jnp.ones(1)]
    transform, state = torchwise.from_state_dict({"state": {}, "param_groups": groups}, params)
    others = [jnp.ones(1), jnp.ones(1), jnp.ones(1)]
    for call in (transform.step, transform.update):
        with pytest.raises(ValueError, match=r"other parameters: \[2\] is in params, but not in"):
            call(others, state, others)


@pytest.mark.parametrize("given", [None, torchwise.sgd, [torchwise.sgd(0.1)], optax.clip(1.0)])
def test_chain_takes_transforms(given):
    with pytest.raises(TypeError, match=r"^chain\(\) argument 1 must be a torchwise transform, bu"):
        torchwise.chain(torchwise.trace(0.9), given)


def test_the_step_of_a_chain_without_anything():
    transform = torchwise.chain()
    with pytest.raises(TypeError, match=r"^step\(\): the last of a chain must be .* chain\(\)$"):
        transform.step(PARAMS, transform.init(PARAMS), PARAMS)


def test_integers_among_the_parameters_get_increments():
    """`optax.apply_updates` needs them, after `jax.grad(..., allow_int=True)`."""
    params = {"w": jnp.ones(2), "n": jnp.arange(3)}
    state = SGD.init(params)
    grads = jax.grad(lambda p: jnp.sum(p["w"]), allow_int=True)(params)
    updates, _ = SGD.update(grads, state, params)
    assert optax.apply_updates(params, updates)["n"].tolist() == [0, 1, 2]


def test_integers_alone_stand_still():
    params = {"n": jnp.arange(3)}
    grads = jax.grad(lambda p: 0.0, allow_int=True)(params)
    new, _ = SGD.step(grads, SGD.init(params), params)
    assert new["n"].tolist() == [0, 1, 2]


def test_a_number_of_numpy_without_a_gradient_gets_an_increment():
    params = {"w": jnp.ones(2), "frozen": np.float64(2.0)}
    updates, _ = SGD.update({"w": jnp.ones(2), "frozen": None}, SGD.init(params), params)
    assert updates["frozen"] == 0


NO_NUMBERS = {
    "scale(): factor": torchwise.scale,
    "add_decayed_weights(): weight_decay": torchwise.add_decayed_weights,
    "trace(): momentum": torchwise.trace,
    "scale_by_adagrad(): initial_accumulator_value": torchwise.scale_by_adagrad,
    "clip_each_by_norm(): max_norm": torchwise.clip_each_by_norm,
    "clip_grad_norm(): max_norm": torchwise.clip_grad_norm,
    "clip_grad_value(): clip_value": torchwise.clip_grad_value,
    "decay": torchwise.averages.ema,
    "accumulate_gradients(): num_micro_batches": functools.partial(
        torchwise.accumulate_gradients, lambda params, batch: 0.0
    ),
}


@pytest.mark.parametrize("name", NO_NUMBERS)
@pytest.mark.parametrize("value", ["x", None, [1, 2]])
def test_what_is_no_number_is_named(name, value):
    with pytest.raises(TypeError, match=re.escape(name)):
        NO_NUMBERS[name](value)


def test_a_state_that_is_no_dict_is_named():
    optimizer = torchwise.optim.SGD([jnp.ones(2)], lr=0.1, momentum=0.9)
    with pytest.raises(TypeError, match=r"optimizer\.state\[parameter\] = None: pass a dict"):
        optimizer.state[optimizer.param_groups[0]["params"][0]] = None
