"""What does not fit is refused at once, all of it, by name."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from state_dict_tools import step_torch, tensors_of

import torchwise
from cases import FULL, OPTIMIZERS
from rounds import FIRST, each
from torchwise.rules import RULES

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(2)}


def sgd_dict(**changes):
    group = torch.optim.SGD(tensors_of([np.ones(1)]), 0.1, 0.9).state_dict()["param_groups"][0]
    return {"state": {}, "param_groups": [{**group, "params": [0, 1], **changes}]}


def without(key):
    state_dict = sgd_dict()
    del state_dict["param_groups"][0][key]
    return state_dict


def buffers(*shapes, key="momentum_buffer", **changes):
    state = {index: {key: np.ones(shape, np.float32)} for index, shape in enumerate(shapes)}
    return {**sgd_dict(**changes), "state": state}


NAMED = {"param_names": ["b", "weight"]}
ADAGRAD = torch.optim.Adagrad(tensors_of([np.ones(2), np.ones((2, 3))])).state_dict()
UNKNOWN = {"state": {}, "param_groups": [{"lr": 0.1, "velocity": 0.9, "params": [0, 1]}]}
SUPPORTED = ", ".join(rule.name for rule in RULES)


def adagrad(step):
    return {**ADAGRAD, "state": {0: {**ADAGRAD["state"][0], "step": step}}}


REFUSED = {
    "another dict": ({"model": {}}, ["'state' and 'param_groups' are missing from 'model'"]),
    "no dict": ([1], ["here or in torch, but got a list"]),
    "another optimizer": (
        UNKNOWN,
        [f"group 0: no optimizer has the keys 'lr', 'velocity'; supported are {SUPPORTED}"],
    ),
    "too few": (sgd_dict(params=[0]), ["1 parameter in the state dict, 2 in the tree"]),
    "an id twice": (sgd_dict(params=[0, 0]), ["an id is in the groups twice"]),
    "other names": (sgd_dict(**NAMED), ["missing 'w'", "unexpected 'weight'"]),
    "a name twice": (sgd_dict(param_names=["b", "b"]), ["missing 'w'", "same name twice in"]),
    "names too few": (sgd_dict(param_names=["b"]), ["1 name for 2 parameters"]),
    "shapes": (
        buffers((3,), (3, 2)),
        [
            "parameter 0 (b): 'momentum_buffer' has shape (3,), the parameter (2,)",
            "parameter 1 (w): 'momentum_buffer' has shape (3, 2), the parameter (2, 3)",
        ],
    ),
    "state of another optimizer": (
        buffers((2,), key="exp_avg"),
        ["(b): unexpected state 'exp_avg'", "(b): missing state 'momentum_buffer'"],
    ),
    "a buffer without momentum": (
        buffers((2,), momentum=0),
        ["parameter 0 (b): unexpected state 'momentum_buffer'"],
    ),
    "state of nobody": (buffers((2,), (2, 3), (1,)), ["state of 2, which no group has"]),
    "complex state": (
        {**sgd_dict(), "state": {0: {"momentum_buffer": np.ones(2, np.complex64)}}},
        ["'momentum_buffer' is complex64, the parameter float32"],
    ),
    "no array": (
        {**sgd_dict(), "state": {0: {"momentum_buffer": "zeros"}}},
        ["'momentum_buffer' is a str, no array"],
    ),
    "a sparse tensor": (
        {**sgd_dict(), "state": {0: {"momentum_buffer": torch.ones(2).to_sparse()}}},
        ["'momentum_buffer' cannot be read: only dense tensors"],
    ),
    "a step with axes": (adagrad(np.ones(2)), ["'step' has shape (2,), a scalar is wanted"]),
    "a step that is none": (
        adagrad(float("nan")),
        ["'step' is nan, but a step count must be at least 0 and below 2**31"],
    ),
    "a negative lr": (sgd_dict(lr=-1), ["group 0: Invalid learning rate: -1"]),
    "nesterov without momentum": (
        sgd_dict(momentum=0, nesterov=True),
        ["group 0: Nesterov momentum requires a momentum and zero dampening"],
    ),
    "a hyperparameter that is none": (sgd_dict(lr="fast"), ["group 0: '<' not supported"]),
    "a missing hyperparameter": (without("dampening"), [f"supported are {SUPPORTED}"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_from_state_dict_lists_every_problem(name):
    state_dict, texts = REFUSED[name]
    with pytest.raises(ValueError, match=r"^from_state_dict\(\)") as caught:
        torchwise.from_state_dict(state_dict, PARAMS)
    for text in texts:
        assert text in str(caught.value)


TAKES = "from_state_dict() takes what state_dict() of an optimizer returned, here or in torch, but "
MALFORMED = {
    "nothing": (None, "got a NoneType"),
    "a state": (torchwise.sgd(0.1).init(PARAMS), "got a ChainState"),
    "a whole checkpoint": (
        {"model": {}, "optimizer": sgd_dict()},
        "'state' and 'param_groups' are missing from 'model', 'optimizer'; pass what is under "
        "'optimizer'",
    ),
    "no state": ({**sgd_dict(), "state": None}, "'state' is a NoneType, no dict"),
    "a list in the state": (
        {**sgd_dict(), "state": {0: [1]}},
        "the state of 0 is a list, no dict",
    ),
    "no list of groups": ({**sgd_dict(), "param_groups": {}}, "'param_groups' is a dict, no list"),
    "no group": ({**sgd_dict(), "param_groups": [1]}, "group 0 is a int, no dict"),
    "no ids": ({"state": {}, "param_groups": [{"lr": 1}]}, "group 0 has no list of ids under "),
    "tensors": (
        sgd_dict(params=[torch.ones(2)]),
        "group 0 has something else than ids under 'params'",
    ),
    "no names": (sgd_dict(param_names=3), "group 0 has a int under 'param_names', no list"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_from_state_dict_of_no_state_dict(name):
    given, text = MALFORMED[name]
    with pytest.raises(ValueError, match=f"^{re.escape(TAKES + text)}"):
        torchwise.from_state_dict(given, PARAMS)


WRONG_ARGUMENTS = {
    "no params": ({"params": None}, ValueError, "params is None: pass the tree of parameters"),
    "a state": (
        {"params": torchwise.sgd(0.1).init(PARAMS)},
        TypeError,
        "params is a state: pass the tree of parameters",
    ),
    "a model": (
        {"params": {**PARAMS, "activation": jax.nn.relu, "name": "relu"}},
        TypeError,
        "params has leaves that are no arrays (['activation'] is custom_jvp, ['name'] is str): "
        "pass the arrays alone, as eqx.filter(model, eqx.is_inexact_array) of an Equinox module",
    ),
    "one name": (
        {"names": "bw"},
        TypeError,
        "names is a str: pass a list of torch's names, as that of model.named_parameters()",
    ),
    "a dict as layout": (
        {"layout": {"w": "weight"}},
        TypeError,
        "layout is a dict: pass a torchwise.Layout",
    ),
}


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_arguments_of_other_kinds(name):
    arguments, error, text = WRONG_ARGUMENTS[name]
    arguments = {"params": PARAMS, **arguments}
    transform = torchwise.sgd(0.1)
    with pytest.raises(error, match=f"^{re.escape('from_state_dict(): ' + text)}$"):
        torchwise.from_state_dict(sgd_dict(), **arguments)
    with pytest.raises(error, match=f"^{re.escape('to_state_dict(): ' + text)}$"):
        torchwise.to_state_dict(transform, transform.init(PARAMS), **arguments)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (None, "(the whole tree) is None in what was given, a ChainState in what was expected"),
        (sgd_dict(), "(the whole tree) is a dict in what was given, a ChainState in what was exp"),
        (torchwise.adam(0.1).init(PARAMS), ".step is an array in what was given, None in what "),
    ],
)
def test_to_state_dict_of_another_state(state, text):
    text = f"to_state_dict(): the state is not that of these parameters: {text}"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}.*; pass what init"):
        torchwise.to_state_dict(torchwise.sgd(0.1, 0.9), state, PARAMS)


def torch_dict(case):
    """A dict of torch after a step, for the parameters b and w."""
    arrays = [np.ones(2, np.float32), np.ones((2, 3), np.float32)]
    tensors = tensors_of(arrays)
    optimizer = case.optimizer.theirs(tensors, **case.hyperparameters)
    step_torch(optimizer, tensors, arrays)
    return optimizer.state_dict()


def refusal(state_dict, **options):
    """The lines of the error, without the first."""
    with pytest.raises(ValueError, match=r"^from_state_dict\(\): ") as caught:
        torchwise.from_state_dict(state_dict, PARAMS, **options)
    return str(caught.value).split("\n  ")[1:]


LABELS = {0: "parameter 0 (b)", 1: "parameter 1 (w)"}


@pytest.mark.parametrize("case", each(FULL, usual=FIRST))
def test_state_of_a_wrong_shape(case):
    saved = torch_dict(case)
    for entry in saved["state"].values():
        entry.update(dict.fromkeys(entry, np.ones((7, 1), np.float32)))
    lines = refusal(saved)
    expected = [
        f"{LABELS[identity]}: {key!r} has shape (7, 1), "
        for identity, entry in saved["state"].items()
        for key in entry
    ]
    assert len(expected) >= len(LABELS)
    assert [line[: len(start)] for line, start in zip(lines, expected, strict=True)] == expected


@pytest.mark.parametrize("case", each(FULL, usual=FIRST))
def test_state_that_is_missing(case):
    keys = list(torch_dict(case)["state"][0])
    for key in keys:
        saved = torch_dict(case)
        for entry in saved["state"].values():
            del entry[key]
            entry["unheard_of"] = np.ones(2, np.float32)
        assert refusal(saved) == [
            f"{label}: {problem}"
            for label in LABELS.values()
            for problem in ("unexpected state 'unheard_of'", f"missing state {key!r}")
        ]
    assert keys


@pytest.mark.parametrize(
    ("row", "bad"),
    [
        pytest.param(row, bad, id=f"{name} {bad}")
        for name, row in OPTIMIZERS.items()
        for bad in row.bad
    ],
)
def test_hyperparameters_that_torch_refuses(row, bad):
    tensors = tensors_of([np.ones(2), np.ones((2, 3))])
    saved = row.theirs(tensors).state_dict()
    saved["param_groups"][0].update(bad)
    with pytest.raises((TypeError, ValueError)) as theirs:
        row.theirs(tensors, **bad)
    assert refusal(saved, optimizer=row.stateful) == [f"group 0: {theirs.value}"]


def test_the_names_given_must_be_those_of_the_tree():
    with pytest.raises(ValueError, match="missing 'w'\n  unexpected 'v'"):
        torchwise.from_state_dict(sgd_dict(), PARAMS, names=["b", "v"])
    transform = torchwise.sgd()
    with pytest.raises(ValueError, match=r"to_state_dict\(\): the names are not[^'\0]*'w'"):
        torchwise.to_state_dict(transform, transform.init(PARAMS), PARAMS, names=["b"])


CHAINS = {
    "dragon": torchwise.dragon.sgd(0.1, 0.9),
    "decay twice": torchwise.chain(torchwise.add_decayed_weights(0.1), torchwise.sgd(0.1, 0, 0, 1)),
    "decay after momentum": torchwise.chain(
        torchwise.trace(0.9), torchwise.add_decayed_weights(0.1), torchwise.sgd(0.1)
    ),
    "decaying lr": torchwise.chain(torchwise.trace(0.9), torchwise.scale_by_learning_rate(0.1, 2)),
    "no lr": torchwise.scale_by_adagrad(),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_that_torch_does_not_know_is_refused(name):
    chain = CHAINS[name]
    text = f"to_state_dict(): {chain!r} is none of torch's optimizers: {SUPPORTED}"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        torchwise.to_state_dict(chain, chain.init(PARAMS), PARAMS)


def test_other_transforms_are_refused():
    transform = optax.sgd(0.1)
    with pytest.raises(TypeError, match=r"needs a torchwise chain.* with none"):
        torchwise.to_state_dict(transform, transform.init(PARAMS), PARAMS)


def test_params_from_state_dict_lists_every_problem():
    saved = {"w": np.ones((3, 2)), "c": np.ones(2)}
    with pytest.raises(ValueError, match=r"^params_from_state_dict\(\): ") as caught:
        torchwise.params_from_state_dict(saved, PARAMS)
    assert str(caught.value).split("\n  ")[1:] == [
        "missing 'b'",
        "unexpected 'c'",
        "'w' has shape (3, 2), the parameter (2, 3)",
    ]


@pytest.mark.parametrize("axes", [(0,), (0, 0), (0, 2), (1, None)])
def test_axes_must_fit(axes):
    layout = torchwise.Layout(permute={"w": axes})
    with pytest.raises(ValueError, match=re.escape(f"axes {axes} do not fit 'w' of shape (2, 3)")):
        torchwise.params_from_state_dict({}, PARAMS, layout=layout)


def test_two_leaves_cannot_have_one_name():
    with pytest.raises(ValueError, match="'b' and 'w' have the same name in torch, 'x'"):
        torchwise.params_to_state_dict(PARAMS, layout=torchwise.Layout(lambda _: "x"))


def test_a_state_of_other_parameters_is_refused():
    transform = torchwise.sgd(0.1, 0.9)
    with pytest.raises(ValueError, match=r"not that of these parameters: .*\['b'\] is in what was"):
        torchwise.to_state_dict(transform, transform.init({"x": jax.numpy.ones(2)}), PARAMS)
