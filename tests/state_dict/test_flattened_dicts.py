"""The flat form of an optimizer's dict, as torch.distributed writes it."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

import torchwise
from torchwise.state_dict.flattened import unflattened


def trained(optimizer):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 4))
    weights, biases = ([p for p in model.parameters() if p.ndim == n] for n in (2, 1))
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": biases, "lr": 0.5}]
    made = optimizer(groups)
    for _ in range(3):
        made.zero_grad()
        model(torch.randn(5, 3)).square().sum().backward()
        made.step()
    return model, made


def both_forms(optimizer):
    model, made = trained(optimizer)
    plain = get_optimizer_state_dict(model, made)
    options = StateDictOptions(flatten_optimizer_state_dict=True)
    return model, plain, get_optimizer_state_dict(model, made, options=options)


OPTIMIZERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=torch.tensor(0.1)),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_flat_form_is_the_usual_one(optimizer):
    _, plain, flat = both_forms(OPTIMIZERS[optimizer])
    assert all(key.startswith(("state.", "param_groups.")) for key in flat)
    found = unflattened(flat)
    assert found["state"].keys() == plain["state"].keys() == {"0.weight", "0.bias", *NAMES[1:]}
    for name, entry in plain["state"].items():
        assert found["state"][name].keys() == entry.keys()
        for key, value in entry.items():
            assert torch.equal(found["state"][name][key], value)
    assert len(found["param_groups"]) == 2
    for ours, theirs in zip(found["param_groups"], plain["param_groups"], strict=True):
        assert ours == theirs


NAMES = ["0.weight", "1.weight", "0.bias", "1.bias"]


def test_it_is_loaded():
    model, _, flat = both_forms(OPTIMIZERS["sgd"])
    params = {name: jnp.asarray(p.detach().numpy()) for name, p in model.named_parameters()}
    transform, state = torchwise.from_state_dict(flat, params, names=NAMES)
    written = torchwise.to_state_dict(transform, state, params, names=NAMES)
    assert [group["weight_decay"] for group in written["param_groups"]] == [0.1, 0]
    assert [group["lr"] for group in written["param_groups"]] == [0.1, 0.5]
    ids = [identity for group in written["param_groups"] for identity in group["params"]]
    for name, identity in zip(NAMES, ids, strict=True):
        buffer = np.asarray(written["state"][identity]["momentum_buffer"])
        assert np.array_equal(buffer, flat[f"state.{name}.momentum_buffer"].numpy()), name


def test_anything_else_is_as_it_was():
    for value in ({}, {"state": {}, "param_groups": []}, None, {"state.w.x": 1, "other": 2}):
        assert unflattened(value) is value
