"""SWALR, where it is unlike other schedulers: beside one, with arrays, in old state dicts."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scheduler_cases import OURS, THEIRS, advance, groups_of, kind_of, optimizers, plain, same

from torchwise import optim


def both(*arguments, groups=2, **options):
    return [
        kind_of(module, "SWALR")(optimizer, *arguments, **options)
        for module, optimizer in zip((THEIRS, OURS), optimizers(groups=groups))
    ]


def test_signature():
    theirs, ours = (
        list(inspect.signature(kind_of(module, "SWALR")).parameters.values())
        for module in (THEIRS, OURS)
    )
    assert [one.name for one in ours] == [one.name for one in theirs]
    assert [one.default for one in ours] == [one.default for one in theirs]


@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_after_another_scheduler(strategy):
    """torch's example: from some epoch on it is SWALR that steps, from the rate that is there."""
    pairs = []
    for module, optimizer in zip((THEIRS, OURS), optimizers(groups=2)):
        first = module.MultiplicativeLR(optimizer, lambda epoch: 0.9)
        pairs.append((first, kind_of(module, "SWALR")(optimizer, [0.05, 1], 20, strategy)))
    (their_first, theirs), (our_first, ours) = pairs
    for epoch in range(60):
        advance(theirs if epoch > 15 else their_first)
        advance(ours if epoch > 15 else our_first)
        same(their_first, our_first)
        same(theirs, ours)
    assert ours.get_last_lr() == [0.05, 1.0]


@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_a_rate_and_an_end_that_are_changed_by_hand(strategy):
    theirs, ours = both(0.3, 12, strategy)
    for scheduler in (theirs, ours):
        advance(scheduler, 4)
        scheduler.optimizer.param_groups[0]["swa_lr"] = 0.7
        scheduler.optimizer.param_groups[1]["lr"] = 0.01
        advance(scheduler, 4)
        scheduler.anneal_epochs = 16
        advance(scheduler, 20)
    same(theirs, ours)
    assert ours.get_last_lr() == [0.7, 0.3]


@pytest.mark.parametrize("rate_too", [False, True])
@pytest.mark.parametrize("epochs", [0, 7])
def test_arrays_as_ends(rate_too, epochs):
    """torch's rate becomes a Tensor by it, and so does ours become an array."""
    theirs, ours = optimizers()
    if rate_too:
        theirs.param_groups[0]["lr"] = torch.tensor(0.1)
        ours.param_groups[0]["lr"] = jnp.asarray(0.1, jnp.float32)
    theirs = kind_of(THEIRS, "SWALR")(theirs, torch.tensor(0.3), epochs)
    ours = kind_of(OURS, "SWALR")(ours, jnp.asarray(0.3, jnp.float32), epochs)
    for _ in range(12):
        same(theirs, ours)
        advance(theirs)
        advance(ours)


def test_a_numpy_array_is_copied():
    given = np.asarray(0.5, np.float32)
    _, optimizer = optimizers()
    scheduler = optim.swa_utils.SWALR(optimizer, given, 2)
    given[...] = 7
    advance(scheduler, 2)
    assert scheduler.get_last_lr() == [0.5]


def test_anneal_func():
    for strategy in ("cos", "linear"):
        theirs, ours = both(0.1, 3, strategy)
        parts = [0, 0.1, 0.5, 0.9, 1]
        assert list(map(ours.anneal_func, parts)) == list(map(theirs.anneal_func, parts))
        with pytest.raises(AttributeError):
            ours.anneal_func = abs


def test_a_dict_of_the_other_strategy_takes_its_own_along():
    theirs, _ = both(0.3, 12, "linear")
    advance(theirs, 5)
    saved = {"optimizer": theirs.optimizer.state_dict(), "scheduler": theirs.state_dict()}
    _, ours = both(0.1, 3, "cos")
    ours.optimizer.load_state_dict(saved["optimizer"])
    ours.load_state_dict(saved["scheduler"])
    for _ in range(12):
        same(theirs, ours)
        advance(theirs)
        advance(ours)


def test_a_dict_with_the_function_of_earlier_versions():
    theirs, ours = both(0.3)
    advance(ours, 2)
    for scheduler in (theirs, ours):
        old = ours.state_dict()
        del old["_anneal_strategy"]
        scheduler.load_state_dict({"anneal_func": abs, **old})
    assert plain(ours.state_dict()) == plain(theirs.state_dict())


def test_an_unknown_strategy_in_a_dict_changes_nothing():
    _, ours = both(0.3)
    before = plain(ours.state_dict())
    with pytest.raises(ValueError, match="instead got sine"):
        ours.load_state_dict({"anneal_epochs": 3, "_anneal_strategy": "sine"})
    assert plain(ours.state_dict()) == before


def test_refused_in_the_first_step_changes_no_group():
    _, optimizer = optimizers()
    optimizer.param_groups[0]["swa_lr"] = 0.25
    before = plain(groups_of(optimizer))
    with pytest.raises(TypeError):
        optim.swa_utils.SWALR(optimizer, "0.1")
    with pytest.raises(KeyError, match="initial_lr"):
        optim.swa_utils.SWALR(optimizer, 0.1, last_epoch=3)
    assert plain(groups_of(optimizer)) == before


def test_a_late_group_with_an_end_of_its_own_as_in_torch():
    theirs, ours = both(0.3, 6, groups=1)
    theirs.optimizer.add_param_group({"params": [torch.ones(1)], "lr": 0.2, "swa_lr": 0.7})
    ours.optimizer.add_param_group({"params": [jnp.ones(1)], "lr": 0.2, "swa_lr": 0.7})
    for _ in range(9):
        advance(theirs)
        advance(ours)
        same(theirs, ours)
