"""Hooks: order, arguments, replacement, removal; torch is asked wherever it has an answer."""

import gc

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.optim.optimizer as torch_registry

from torchwise import optim

SIDES = {
    "ours": (optim, optim, lambda: jnp.ones(2)),
    "theirs": (torch.optim, torch_registry, lambda: torch.ones(2, requires_grad=True)),
}


def make(side):
    library, registry, new = SIDES[side]
    return library.SGD([new()], lr=0.1), registry


def protocol(side):
    """Everything that hooks see in a step, as a list."""
    optimizer, registry = make(side)
    seen = []

    def note(name):
        def hook(opt, args, kwargs):
            seen.append((name, opt is optimizer, len(args), args[0] is optimizer, sorted(kwargs)))

        return hook

    handles = [
        optimizer.register_step_post_hook(note("post")),
        registry.register_optimizer_step_post_hook(note("global post")),
        optimizer.register_step_pre_hook(note("pre 1")),
        optimizer.register_step_pre_hook(note("pre 2")),
        registry.register_optimizer_step_pre_hook(note("global pre")),
    ]
    optimizer.step()
    optimizer.step(lambda: 1.0)
    optimizer.step(closure=lambda: 1.0)
    for handle in handles:
        handle.remove()
        handle.remove()
    optimizer.step()
    return seen


def test_order_and_arguments_as_torch():
    assert protocol("ours") == protocol("theirs")
    assert len(protocol("ours")) == 15


@pytest.mark.parametrize("side", SIDES)
def test_a_pre_hook_changes_arguments(side):
    optimizer, _ = make(side)
    seen = []
    optimizer.register_step_pre_hook(lambda opt, args, kwargs: ((opt, lambda: 7.0), {}))
    optimizer.register_step_post_hook(lambda opt, args, kwargs: seen.append(len(args)))
    assert optimizer.step() == 7.0
    assert seen == [2]


@pytest.mark.parametrize("side", SIDES)
def test_a_pre_hook_that_returns_nonsense(side):
    optimizer, _ = make(side)
    optimizer.register_step_pre_hook(lambda *_: 3)
    with pytest.raises(RuntimeError, match=r"must return None or a tuple of .* but got 3"):
        optimizer.step()


@pytest.mark.parametrize("side", SIDES)
def test_handles_are_context_managers(side):
    optimizer, _ = make(side)
    calls = []
    with optimizer.register_step_pre_hook(lambda *_: calls.append(1)):
        optimizer.step()
    optimizer.step()
    assert calls == [1]


@pytest.mark.parametrize("side", SIDES)
def test_state_dict_hooks(side):
    optimizer, _ = make(side)
    calls = []
    optimizer.register_state_dict_pre_hook(lambda opt: calls.append("pre"))
    optimizer.register_state_dict_pre_hook(lambda opt: calls.append("first"), prepend=True)
    optimizer.register_state_dict_post_hook(lambda opt, sd: {**sd, "extra": 1})
    optimizer.register_state_dict_post_hook(lambda opt, sd: calls.append("post"), prepend=True)
    saved = optimizer.state_dict()
    assert saved["extra"] == 1
    optimizer.register_load_state_dict_pre_hook(lambda opt, sd: calls.append(sorted(sd)))
    optimizer.register_load_state_dict_pre_hook(
        lambda opt, sd: {key: value for key, value in sd.items() if key != "extra"}, prepend=True
    )
    optimizer.register_load_state_dict_post_hook(lambda opt: calls.append("loaded"))
    optimizer.load_state_dict(saved)
    assert calls == ["first", "pre", "post", ["param_groups", "state"], "loaded"]
    assert "extra" in saved


@pytest.mark.parametrize("side", SIDES)
def test_a_dead_registry_is_no_error(side):
    optimizer, _ = make(side)
    handle = optimizer.register_step_pre_hook(lambda *_: None)
    del optimizer
    gc.collect()
    handle.remove()
    assert isinstance(handle.id, int)


def test_an_exception_in_a_hook_or_closure_changes_nothing():
    optimizer = optim.SGD({"w": jnp.ones(2)}, lr=0.1, momentum=0.9)

    def loss(params):
        return jnp.sum(params["w"])

    def fail(*_):
        raise ZeroDivisionError

    optimizer.backward(loss)
    before = optimizer.params, optimizer.state_dict()
    handle = optimizer.register_step_pre_hook(fail)
    for call in (optimizer.step, lambda: optimizer.train_step(loss)):
        with pytest.raises(ZeroDivisionError):
            call()
    handle.remove()
    with pytest.raises(ZeroDivisionError):
        optimizer.step(fail)
    with pytest.raises(ZeroDivisionError):
        optimizer.train_step(fail)
    after = optimizer.params, optimizer.state_dict()
    np.testing.assert_array_equal(before[0]["w"], after[0]["w"])
    assert before[1] == after[1]
    optimizer.step()
    assert float(optimizer.params["w"][0]) < 1


def test_hooks_fire_in_train_step():
    optimizer = optim.SGD([jnp.ones(2)], lr=0.1)
    seen = []
    optimizer.register_step_pre_hook(lambda opt, args, kwargs: seen.append(args[1:]))
    optimizer.register_step_post_hook(
        lambda opt, args, kwargs: seen.append(float(opt.params[0][0]))
    )

    def loss(params, factor):
        return factor * jnp.sum(params[0])

    optimizer.train_step(loss, 2.0)
    assert seen[0] == (loss, 2.0)
    assert seen[1] == pytest.approx(0.8)


def test_a_closure_is_evaluated_before_the_update():
    optimizer = optim.SGD([jnp.ones(2)], lr=0.5)
    losses = []

    def closure():
        optimizer.zero_grad()
        losses.append(float(optimizer.backward(lambda p: jnp.sum(p[0] ** 2))))
        return losses[-1]

    assert [optimizer.step(closure), optimizer.step(closure)] == losses == [2.0, 0.0]
