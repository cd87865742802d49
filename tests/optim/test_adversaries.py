"""What users try that cannot be: each is refused, by a sentence with the remedy."""

import copy
import functools
import random
import re

import equinox as eqx
import flax.linen as linen
import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from interrupts import held

from torchwise import optim


def total(params):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))


# Optimizers over nothing.


class Dense(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2)(x)


NOTHING = {
    "torch module": (lambda: torch.nn.Linear(2, 2), TypeError, "Linear is a module of torch"),
    "parameters": (lambda: torch.nn.Linear(2, 2).parameters(), TypeError, "a torch tensor at [0]"),
    "named_parameters": (
        lambda: torch.nn.Linear(2, 2).named_parameters(),
        TypeError,
        "a torch tensor at [0][1]: pass an array of JAX, as jnp.asarray(tensor.detach().numpy())",
    ),
    "torch state dict": (
        lambda: torch.nn.Linear(2, 2).state_dict(),
        TypeError,
        "a torch tensor at ['weight']",
    ),
    "a tensor": (lambda: torch.ones(2), TypeError, "a torch tensor at (the whole tree)"),
    "a tensor among arrays": (
        lambda: {"a": jnp.ones(2), "b": torch.ones(2)},
        TypeError,
        "a torch tensor at ['b']",
    ),
    "a tensor in a group": (
        lambda: [{"params": [torch.ones(2)]}],
        TypeError,
        "a torch tensor at [0]",
    ),
    "integers": (
        lambda: {"a": jnp.arange(3), "b": np.arange(3)},
        ValueError,
        "nothing to optimize in a dict with arrays of type int",
    ),
    "a class": (lambda: Dense, ValueError, "nothing to optimize in the class Dense"),
    "an instance of Linen": (Dense, ValueError, "nothing to optimize in a Dense"),
    "strings": (lambda: {"a": "x"}, ValueError, "nothing to optimize in a dict: pass a tree"),
    "empty groups": (lambda: [{"params": []}], ValueError, "nothing to optimize in a list"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_to_optimize(name):
    make, kind, text = NOTHING[name]
    with pytest.raises(kind, match=re.escape(text)):
        optim.SGD(make(), lr=0.1)


def test_tensors_elsewhere():
    with pytest.raises(TypeError, match=r"a torch tensor: pass an array of JAX, as jnp\.asarray"):
        optim.Parameter(torch.ones(2))
    parameter = optim.Parameter(np.ones(2, np.float32))
    with pytest.raises(TypeError, match="a torch tensor: pass an array of JAX"):
        parameter.grad = torch.ones(2)
    optimizer = optim.SGD([parameter], lr=torch.tensor(0.5))
    parameter.grad = np.ones(2, np.float32)
    optimizer.step()
    np.testing.assert_array_equal(parameter.data, 0.5)


# Statistics.


class Normed(nnx.Module):
    def __init__(self):
        self.norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))


def test_statistics_are_no_parameters():
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    saved = {name: jnp.asarray(value.numpy()) for name, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=r"'1\.running_mean', '1\.running_var': no parameters but"):
        optim.SGD(saved)
    statistics = ("running_mean", "running_var")
    kept = {name: value for name, value in saved.items() if not name.endswith(statistics)}
    assert len(optim.SGD(kept).param_groups[0]["params"]) == 4
    explicit = {name: optim.Parameter(saved[name]) for name in saved if "running" in name}
    assert len(optim.SGD(explicit).param_groups[0]["params"]) == 2
    with pytest.raises(ValueError, match=r"'norm\.mean' \(BatchStat\)"):
        optim.SGD(nnx.state(Normed()))
    with pytest.raises(ValueError, match=r"nnx\.state\(model, nnx\.Param\)"):
        optim.SGD(Normed())
    optim.SGD(nnx.state(Normed(), nnx.Param))
    variables = {"params": {"w": jnp.ones(2)}, "batch_stats": {"mean": jnp.ones(2)}}
    with pytest.raises(ValueError, match=r"'batch_stats\.mean': .*variables\['params'\] in Linen"):
        optim.SGD(variables)
    model, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, "batch", mode="batch")
    optim.SGD(model)
    with pytest.raises(ValueError, match=r"no parameters but statistics|nothing to optimize"):
        optim.SGD(state)


# One array in two places.


@pytest.mark.parametrize("kind", [jnp.ones, lambda size: np.ones(size, np.float32)])
def test_one_array_twice(kind):
    array = kind(2)
    assert len(optim.SGD({"a": array, "b": array}).param_groups[0]["params"]) == 2  # they are two
    for params in ([array, array], (array, array), [{"params": [array, array]}]):
        with pytest.raises(ValueError, match=r"are one array: use it twice in the loss"):
            optim.SGD(params)


# Schedules.


SCHEDULES = {
    "lambda": lambda count: 0.1,
    "optax": optax.cosine_decay_schedule(0.1, 10),
    "partial": functools.partial(lambda rate, count: rate, 0.1),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_refused_everywhere(name):
    schedule, text = SCHEDULES[name], r"is a function, .* torchwise\.optim\.lr_scheduler"
    for key in ("lr", "momentum", "weight_decay", "dampening"):
        with pytest.raises(TypeError, match=f"^{key} {text}"):
            optim.SGD([jnp.ones(1)], **{key: schedule})
        optimizer = optim.SGD([jnp.ones(1)], lr=0.1, momentum=0.5)
        with pytest.raises(TypeError, match=f"^{key} {text}"):
            optimizer.add_param_group({"params": [jnp.ones(1)], key: schedule})
        optimizer.train_step(total)
        before = held(optimizer)[:2]
        optimizer.param_groups[0][key] = schedule
        for step in (lambda: optimizer.train_step(total), optimizer.step):  # noqa: B023
            for parameter in optimizer.param_groups[0]["params"]:
                parameter.grad = jnp.ones(1)
            with pytest.raises(TypeError, match=f"^{key} {text}"):
                step()
        optimizer.param_groups[0][key] = 0.1
        assert held(optimizer)[:2] == before
    with pytest.raises(TypeError, match=f"^betas {text}"):
        optim.Adam([jnp.ones(1)], betas=(schedule, 0.9))
    with pytest.raises(TypeError, match=f"^eps {text}"):
        optim.Adam([jnp.ones(1)], eps=schedule)


def test_a_tensor_as_a_live_rate_is_read_at_each_step():
    optimizer, rate = optim.SGD([np.ones(1, np.float32)], lr=1.0), torch.tensor(0.5)
    optimizer.param_groups[0]["lr"] = rate
    (parameter,) = optimizer.param_groups[0]["params"]
    parameter.grad = np.ones(1, np.float32)
    optimizer.step()
    rate.fill_(0.25)
    optimizer.step()
    np.testing.assert_array_equal(parameter.data, 0.25)
    optimizer.param_groups[0]["lr"] = torch.ones(2)
    with pytest.raises(ValueError, match="Tensor lr must be 1-element"):
        optimizer.step()


def test_an_array_among_a_groups_own_keys():
    optimizer = optim.SGD([{"params": {"w": np.ones(2, np.float32)}, "mask": np.ones(2)}], lr=0.1)
    for _ in range(2):
        optimizer.train_step(total)
    saved = optimizer.state_dict()
    np.testing.assert_array_equal(saved["param_groups"][0]["mask"], 1.0)
    optimizer.load_state_dict(saved)
    optimizer.from_functional(*optimizer.to_functional()[1:])


# Hooks.


@pytest.mark.parametrize("register", ["pre", "post", "global pre", "global post"])
def test_hooks_of_a_whole_step_have_no_gradients(register):
    optimizer = optim.SGD([np.ones(1, np.float32)], lr=0.1)

    def clip(optimizer, args, kwargs):
        for parameter in optimizer.param_groups[0]["params"]:
            if parameter.grad is not None:
                parameter.grad = parameter.grad * 0.5

    registry = {
        "pre": optimizer.register_step_pre_hook,
        "post": optimizer.register_step_post_hook,
        "global pre": optim.register_optimizer_step_pre_hook,
        "global post": optim.register_optimizer_step_post_hook,
    }
    with registry[register](clip):
        with pytest.raises(RuntimeError, match=r"max_grad_norm=.*backward\(\) and step\(\)"):
            optimizer.train_step(total)
        optimizer.backward(total)
        optimizer.step()
    with registry[register](lambda optimizer, *_: optimizer.zero_grad()):
        optimizer.train_step(total)


# Steps inside a transformation.


def test_a_step_inside_jit_is_refused_and_leaks_nothing():
    optimizer = optim.Adam({"w": np.ones(2, np.float32)}, lr=0.1)
    optimizer.train_step(total)
    _, _, state = optimizer.to_functional()
    (parameter,) = optimizer.param_groups[0]["params"]
    before = held(optimizer)

    def set_grad(x):
        parameter.grad = x

    def set_data(x):
        parameter.data = x

    inside = {
        "train_step": lambda x: optimizer.train_step(total),
        "with an argument": lambda x: optimizer.train_step(lambda p, x: total(p) * x[0], x),
        "closed over": lambda x: optimizer.train_step(lambda p: total(p) * x[0]),
        "backward": lambda x: optimizer.backward(lambda p: total(p) * x[0]),
        "grad": set_grad,
        "data": set_data,
        "state": lambda x: optimizer.state[parameter].update(exp_avg=x),
        "params": lambda x: setattr(optimizer, "params", {"w": x}),
        "from_functional": lambda x: optimizer.from_functional({"w": x}, state),
        "rate": lambda x: optimizer.param_groups[0].update(lr=x[0]) or optimizer.train_step(total),
    }
    for name, function in inside.items():
        with pytest.raises(RuntimeError, match=r"to_functional\(\).*transform\.step"):
            jax.jit(function)(jnp.ones(2))
        optimizer.param_groups[0]["lr"] = 0.1
        parameter.grad = None
        assert held(optimizer) == before, name
    parameter.grad = np.ones(2, np.float32)
    with pytest.raises(RuntimeError, match="to_functional"):
        jax.jit(optimizer.step)()
    assert held(optimizer) == before
    optimizer.step()
    assert held(optimizer) != before


# Values for all parameters.


def test_params_can_be_assigned():
    optimizer = optim.SGD({"w": np.ones(2, np.float32), "name": "x"}, lr=0.5, momentum=0.9)
    optimizer.train_step(lambda params: jnp.sum(params["w"]))
    optimizer.params["w"] = jnp.zeros(2)  # a tree of its own
    np.testing.assert_array_equal(optimizer.params["w"], 0.5)
    given = np.full(2, 3.0, np.float32)
    optimizer.params = {"w": given, "name": "x"}
    given[:] = 7
    np.testing.assert_array_equal(optimizer.params["w"], 3.0)
    optimizer.train_step(lambda params: jnp.sum(params["w"]))
    np.testing.assert_allclose(optimizer.params["w"], 3.0 - 0.5 * 1.9)
    before = held(optimizer)
    wrong = {
        r"\['w'\] is float32\[3\], but float32\[2\] is wanted": {"w": jnp.ones(3), "name": ""},
        r"\['w'\] is int32\[2\], but float32\[2\] is wanted": {"w": jnp.arange(2), "name": ""},
        r"\['w'\] is a str, but float32\[2\] is wanted": {"w": "x", "name": ""},
        "the structure is another one": [jnp.ones(2)],
    }
    for text, tree in wrong.items():
        with pytest.raises(ValueError, match=f"params was not changed:\n  {text}"):
            optimizer.params = tree
        assert held(optimizer) == before


# Groups that were moved.


def test_moved_groups_keep_their_states():
    make = lambda: optim.SGD(  # noqa: E731
        [
            {"params": {"a": np.ones(2, np.float32)}, "momentum": 0.9},
            {"params": {"b": np.ones(2, np.float32)}, "momentum": 0.5, "lr": 0.01},
        ],
        lr=0.1,
    )
    moved, plain = make(), make()
    for one in (moved, plain):
        one.train_step(total)
    moved.param_groups.reverse()
    for one in (moved, plain):
        transform, params, state = one.to_functional()
        grads = jax.tree.map(jnp.ones_like, params)
        for _ in range(2):
            params, state = transform.step(grads, state, params)
        one.from_functional(params, state)
        one.train_step(total)
    assert held(moved)[0] == held(plain)[0]
    for index in (0, 1):
        ours, theirs = moved.param_groups[1 - index], plain.param_groups[index]
        np.testing.assert_array_equal(
            moved.state[ours["params"][0]]["momentum_buffer"],
            plain.state[theirs["params"][0]]["momentum_buffer"],
        )
    removed = moved.param_groups.pop()
    with pytest.raises(ValueError, match=r"(?s)to_functional\(\) needs .*'a' is in 0 groups"):
        moved.to_functional()
    moved.param_groups += [removed, dict(removed)]
    with pytest.raises(ValueError, match="parameter 'a' is in 2 groups"):
        moved.to_functional()
    moved.param_groups[-1]["params"] = [optim.Parameter(jnp.ones(1), "c")]
    with pytest.raises(ValueError, match="parameter 'c' of a group was not passed"):
        moved.to_functional()


# State dicts.


def whole():
    optimizer = optim.Adam({"w": np.ones(2, np.float32), "b": np.ones(1, np.float32)}, lr=0.1)
    optimizer.train_step(total)
    return optimizer


NO_STATE_DICT = {
    "got a NoneType": lambda saved: None,
    "got a list": lambda saved: [saved],
    "are missing from 'model', 'optimizer'; pass what is under 'optimizer'": lambda saved: {
        "model": {"w": 1},
        "optimizer": saved,
    },
    "'state' and 'param_groups' are missing from an empty dict": lambda saved: {},
    "group 0 has no list of ids under 'params', but 'lr'": lambda saved: {
        **saved,
        "param_groups": [{"lr": 0.1}],
    },
    "group 0 is a int, no dict": lambda saved: {**saved, "param_groups": [3]},
    "'param_groups' is a dict, no list": lambda saved: {**saved, "param_groups": {}},
    "'state' is a list, no dict": lambda saved: {**saved, "state": []},
    "the state of 0 is a str, no dict": lambda saved: {**saved, "state": {0: "x"}},
}


@pytest.mark.parametrize("text", NO_STATE_DICT)
def test_what_is_no_state_dict(text):
    optimizer = whole()
    before = held(optimizer)
    with pytest.raises(ValueError, match=f"takes what state_dict.*{re.escape(text)}"):
        optimizer.load_state_dict(NO_STATE_DICT[text](optimizer.state_dict()))
    assert held(optimizer) == before


VALUES = (None, "x", [], {}, -1, 1.5, (), [1, "a"], np.ones(7), object(), float("nan"), b"", {1, 2})


def broken_somewhere(saved, rng):
    """A copy in which something, at any depth, is replaced, removed or renamed."""
    saved = copy.deepcopy(saved)
    for _ in range(rng.randint(1, 3)):
        place = saved
        while isinstance(place, dict | list) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = rng.choice(keys)
            if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.3:
                change = rng.randrange(3)
                if change == 0:
                    place[key] = copy.copy(rng.choice(VALUES))
                elif change == 1:
                    del place[key]
                elif isinstance(place, dict):
                    place["renamed"] = place.pop(key)
                break
            place = place[key]
    return saved


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.LBFGS])
def test_broken_dicts_end_in_one_kind_of_error(make):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    optimizer = make({"w": np.ones(2, np.float32), "b": np.ones(1, np.float32)}, lr=0.1)
    optimizer.train_step(total)
    saved, refused = optimizer.state_dict(), 0
    for _ in range(150):
        broken = broken_somewhere(saved, rng)
        before = held(optimizer)
        text = refusal(optimizer, broken)
        if text is None:
            optimizer.load_state_dict(saved)
        else:
            refused += 1
            assert "load_state_dict()" in text or "loaded state dict" in text
            assert held(optimizer) == before
    assert refused > 75


def refusal(optimizer, saved):
    try:
        optimizer.load_state_dict(saved)
    except ValueError as error:
        return str(error)
    return None
