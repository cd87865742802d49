"""Saving and loading: whole or not at all, by name, and across torch."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from cases import FULL
from distance import same_bits
from rounds import FIRST, each
from torch_oracle import correctly_rounded_sqrt, to_numpy, to_torch
from torchwise import optim

PARAMS = {"b": np.zeros(3, np.float32), "w": np.ones((2, 3), np.float32)}


CASES = pytest.mark.parametrize("case", each(FULL, FIRST[:1]))


def trained(make=optim.SGD, params=PARAMS, lr=0.1, **hyperparameters):
    optimizer = make(params, lr=lr, **hyperparameters)
    optimizer.train_step(loss)
    return optimizer


def stateful(case):
    return getattr(optim, case.optimizer.stateful)


def trained_case(case, params=PARAMS):
    return trained(stateful(case), params, **case.hyperparameters)


def loss(params):
    return sum(jnp.sum((leaf - 0.5) ** 2) for leaf in jax.tree.leaves(params))


def momentum_sgd(**changes):
    return trained(momentum=0.9, **changes)


@CASES
@pytest.mark.parametrize("named", [False, True])
def test_torchs_dict_loads_and_goes_on(case, named):
    tensors = [to_torch(value).requires_grad_() for value in PARAMS.values()]
    given = list(zip(PARAMS, tensors)) if named else tensors
    theirs = case.optimizer.theirs(given, **case.hyperparameters)
    grads = [np.full(value.shape, 0.25, np.float32) for value in PARAMS.values()]

    def step_theirs():
        for tensor, grad in zip(tensors, grads):
            tensor.grad = to_torch(grad)
        with correctly_rounded_sqrt():
            theirs.step()

    step_theirs()
    now = [tensor.detach().numpy().copy() for tensor in tensors]
    ours = stateful(case)(dict(zip(PARAMS, now)) if named else now, lr=9.0)
    ours.load_state_dict(theirs.state_dict())
    step_theirs()
    for parameter, grad in zip(ours.param_groups[0]["params"], grads):
        parameter.grad = grad
    ours.step()
    for parameter, tensor in zip(ours.param_groups[0]["params"], tensors):
        assert same_bits(parameter.data, tensor.detach().numpy())
    assert ours.state_dict()["param_groups"] == theirs.state_dict()["param_groups"]


def test_nothing_is_aliased():
    optimizer = momentum_sgd()
    saved = optimizer.state_dict()
    before = copy.deepcopy(saved)
    other = optim.SGD(PARAMS, lr=0.1)
    other.load_state_dict(saved)
    other.train_step(loss)
    other.param_groups[0]["param_names"].append("x")
    optimizer.train_step(loss)
    saved_again = optimizer.state_dict()
    saved_again["state"][0].clear()
    assert optimizer.state_dict()["state"][0]
    jax.tree.map(np.testing.assert_array_equal, saved, before)


def test_names_decide_over_positions():
    optimizer = momentum_sgd()
    saved = optimizer.state_dict()
    permuted = optim.SGD([("w", PARAMS["w"]), ("b", PARAMS["b"])], lr=0.1)
    permuted.load_state_dict(saved)
    for name in PARAMS:
        ours = dict(
            zip(permuted.param_groups[0]["param_names"], permuted.param_groups[0]["params"])
        )
        entry = saved["state"][saved["param_groups"][0]["param_names"].index(name)]
        assert same_bits(permuted.state[ours[name]]["momentum_buffer"], entry["momentum_buffer"])
    assert permuted.param_groups[0]["param_names"] == ["w", "b"]


def broken(change):
    saved = momentum_sgd().state_dict()
    change(saved)
    return saved


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (
            lambda sd: sd["param_groups"].append(sd["param_groups"][0]),
            ["a different number of parameter groups"],
        ),
        (lambda sd: sd["param_groups"].append({}), ["a different number of parameter groups"]),
        (
            lambda sd: [sd["param_groups"][0][key].pop() for key in ("params", "param_names")],
            ["doesn't match the size"],
        ),
        (
            lambda sd: sd["param_groups"][0]["params"].pop(),
            ["doesn't match the size"],
        ),
        (
            lambda sd: sd["state"][1].update(momentum_buffer=np.ones(7)),
            [r"'w': 'momentum_buffer' has shape \(7,\), the parameter \(2, 3\)"],
        ),
        (lambda sd: sd["state"][0].update(sum=np.ones(3)), ["'b': unexpected state 'sum'"]),
        (lambda sd: sd["state"].update({9: {}}), ["state of 9, which no group has"]),
        (lambda sd: sd["param_groups"][0].pop("momentum"), ["group 0: missing 'momentum'"]),
        (
            lambda sd: sd["param_groups"][0].update(lr=-1.0),
            [r"group 0: Invalid learning rate: -1\.0"],
        ),
        (
            lambda sd: sd["param_groups"][0].update(param_names=["b", "v"]),
            ["group 0: missing 'w'", "group 0: unexpected 'v'"],
        ),
        (
            lambda sd: (
                sd["state"][0].update(momentum_buffer=np.ones(4)),
                sd["state"][1].update(momentum_buffer=np.ones(5)),
                sd["param_groups"][0].pop("lr"),
            ),
            [r"'b': .*\(4,\)", r"'w': .*\(5,\)", "missing 'lr'"],
        ),
    ],
)
def test_all_problems_are_listed_and_nothing_changes(change, messages):
    optimizer = momentum_sgd(nesterov=True)
    optimizer.train_step(loss)
    before = repr(optimizer), optimizer.state_dict(), optimizer.params
    for message in messages:
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(broken(change))
    after = repr(optimizer), optimizer.state_dict(), optimizer.params
    assert before[0] == after[0]
    jax.tree.map(np.testing.assert_array_equal, before[1], after[1])
    jax.tree.map(np.testing.assert_array_equal, before[2], after[2])


def test_another_optimizers_dict_is_refused():
    with pytest.raises(ValueError, match="missing 'momentum'"):
        momentum_sgd().load_state_dict(trained(optim.Adagrad).state_dict())


@CASES
def test_incomplete_state_is_refused_where_torch_half_loads(case):
    keys = list(trained_case(case).state_dict()["state"][0])
    assert {*keys} <= {"step", *case.optimizer.state_keys}
    optimizer = trained_case(case)
    for key in keys:
        saved = trained_case(case).state_dict()
        del saved["state"][0][key]
        if saved["state"][0]:
            with pytest.raises(ValueError, match=f"'b': missing state '{key}'"):
                optimizer.load_state_dict(saved)
        else:  # that of a parameter without a gradient so far
            optimizer.load_state_dict(saved)
            assert list(optimizer.state_dict()["state"]) == [1]


def test_old_dicts_and_extra_keys():
    saved = momentum_sgd().state_dict()
    group = saved["param_groups"][0]
    for key in ("nesterov", "maximize", "foreach", "differentiable", "fused"):
        del group[key]
    group["initial_lr"] = 0.3
    saved["state"][0]["momentum_buffer"] = None
    optimizer = momentum_sgd()
    optimizer.load_state_dict(saved)
    group = optimizer.param_groups[0]
    assert (group["initial_lr"], group["nesterov"], group["fused"]) == (0.3, False, False)
    assert len(optimizer.state_dict()["state"]) == 1
    optimizer.train_step(loss)


@CASES
def test_state_is_cast_to_the_parameters_type(case):
    with jax.enable_x64(True):
        wide = {name: value.astype(np.float64) for name, value in PARAMS.items()}
        saved = trained_case(case, wide).state_dict()
        narrow = trained_case(case)
        narrow.load_state_dict(saved)
        found = narrow.state_dict()["state"]
    for identity, entry in saved["state"].items():
        assert entry.keys() == found[identity].keys()
        assert {value.dtype for value in entry.values() if value.ndim} == {np.dtype(np.float64)}
        for key, value in entry.items():
            assert same_bits(found[identity][key], np.asarray(value, np.float32))


@CASES
def test_bfloat16_from_torch(case):
    tensor = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    theirs = case.optimizer.theirs([tensor], **case.hyperparameters)
    tensor.grad = torch.full((3,), 0.5, dtype=torch.bfloat16)
    theirs.step()
    ours = stateful(case)([jnp.ones(3, jnp.bfloat16)], lr=0.1)
    again = case.optimizer.theirs([tensor])
    for side in (ours, again):
        side.load_state_dict(theirs.state_dict())
    (found,), (expected,) = (side.state_dict()["state"].values() for side in (ours, again))
    assert list(found) == list(expected) != []
    assert all(same_bits(found[key], to_numpy(expected[key])) for key in expected)


def test_groups_own_initial_accumulator_value():
    optimizer = optim.Adagrad(
        [{"params": [np.ones(2)]}, {"params": [np.ones(2)], "initial_accumulator_value": 0.5}],
        lr=0.1,
    )
    sums = [entry["sum"] for entry in optimizer.state_dict()["state"].values()]
    np.testing.assert_array_equal(sums, [[0.0, 0.0], [0.5, 0.5]])


def test_asgd_rounds_its_numbers_to_float32_in_a_state_of_float64():
    """Loading casts them to the parameter's type; torch then goes on with tensors of float32."""
    rng = np.random.default_rng(0)
    start, *grads = rng.normal(size=(4, 33))
    options = {"lr": 1.57, "lambd": 0.01, "alpha": 0.77, "t0": 1}
    with jax.enable_x64(True):
        tensor = torch.tensor(start, requires_grad=True)
        ours, theirs = optim.ASGD([start], **options), torch.optim.ASGD([tensor], **options)
        (parameter,) = ours.param_groups[0]["params"]
        for grad in grads:
            parameter.grad, tensor.grad = grad, torch.tensor(grad)
            ours.step()
            theirs.step()
            ours.load_state_dict(ours.state_dict())
            theirs.load_state_dict(theirs.state_dict())
            assert same_bits(parameter.data, tensor.detach().numpy())
            for key in ("eta", "mu", "ax"):
                assert same_bits(ours.state[parameter][key], theirs.state[tensor][key].numpy())
