"""State dicts of chains inside of optax's containers and of Flax's optimizer."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

import torchwise
from torchwise.states import ChainState

PARAMS = {"a": jnp.arange(4.0).reshape(2, 2), "b": {"c": jnp.ones(3), "d": jnp.array([2.0])}}
LABELS = {"a": "one", "b": {"c": "two", "d": "one"}}


def sgd(lr=0.1, **options):
    return torchwise.sgd(lr, momentum=0.9, **options)


def run(transform, steps=3, params=PARAMS):
    state = transform.init(params)
    with jax.numpy_dtype_promotion("standard"):  # parts of optax mix types
        for _ in range(steps):
            grads = jax.tree.map(lambda x: x * 0.5, params)
            updates, state = transform.update(grads, state, params)
            params = optax.apply_updates(params, updates)
    return state, params


def written(transform, steps=3, **options):
    state, params = run(transform, steps)
    return torchwise.to_state_dict(transform, state, params, **options)


def assert_same(one, other):
    assert one["param_groups"] == other["param_groups"]
    assert one["state"].keys() == other["state"].keys()
    for key, entry in one["state"].items():
        assert entry.keys() == other["state"][key].keys()
        for name, value in entry.items():
            np.testing.assert_array_equal(value, other["state"][key][name])


def assert_same_arrays(one, other):
    assert len(jax.tree.leaves(one)) == len(jax.tree.leaves(other)) > 0
    jax.tree.map(np.testing.assert_array_equal, nnx.as_pure(one), nnx.as_pure(other))


def chain_state(state):
    """The one state of a chain that a container's state holds."""
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, ChainState))
    (found,) = [leaf for leaf in leaves if isinstance(leaf, ChainState)]
    return found


AROUND = {
    "chain": lambda inner: optax.chain(optax.clip(9.0), optax.identity(), inner),
    "global norm": lambda inner: optax.chain(optax.clip_by_global_norm(1e9), inner),
    "nested": lambda inner: optax.chain(optax.chain(optax.chain(inner), optax.identity())),
    "named": lambda inner: optax.named_chain(("clip", optax.clip(9.0)), ("it", inner)),
    "masked": lambda inner: optax.masked(inner, True),
    "masked by": lambda inner: optax.masked(inner, lambda tree: jax.tree.map(lambda _: True, tree)),
    "partition": lambda inner: optax.partition({"x": inner}, lambda _: "x"),
    "steps": lambda inner: optax.MultiSteps(inner, 1),
    "steps function": lambda inner: optax.MultiSteps(inner, 1).gradient_transformation(),
    "if finite": lambda inner: optax.apply_if_finite(inner, 3),
    "extra": optax.with_extra_args_support,
    "all": lambda inner: optax.MultiSteps(
        optax.chain(optax.clip(9.0), optax.partition({0: optax.masked(inner, True)}, lambda _: 0)),
        1,
    ),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("inner", [sgd(), torchwise.adam(0.1, amsgrad=True)], ids=["SGD", "Adam"])
def test_a_container_is_written_as_what_it_contains(around, inner):
    transform = AROUND[around](inner)
    state, params = run(transform)
    expected = torchwise.to_state_dict(inner, chain_state(state), params)
    assert_same(torchwise.to_state_dict(transform, state, params), expected)
    assert expected["param_groups"][0]["params"] == list(expected["state"]) == [0, 1, 2]


def test_a_partition_becomes_groups_that_torch_loads():
    transform = optax.partition({"one": sgd(), "two": sgd(0.01, weight_decay=0.5)}, LABELS)
    saved = written(transform)
    assert [group["params"] for group in saved["param_groups"]] == [[0, 1], [2]]
    assert [group["param_names"] for group in saved["param_groups"]] == [["a", "b.d"], ["b.c"]]
    assert [group["lr"] for group in saved["param_groups"]] == [0.1, 0.01]
    tensors = [torch.arange(4.0).reshape(2, 2), torch.tensor([2.0]), torch.ones(3)]
    theirs = torch.optim.SGD(
        [{"params": tensors[:2]}, {"params": tensors[2:], "lr": 0.01, "weight_decay": 0.5}],
        lr=0.1,
        momentum=0.9,
    )
    for _ in range(3):
        for tensor in tensors:
            tensor.grad = tensor * 0.5
        theirs.step()
    for index, tensor in enumerate(tensors):
        ours = saved["state"][index]["momentum_buffer"]
        np.testing.assert_allclose(ours, theirs.state[tensor]["momentum_buffer"], rtol=1e-6)
    theirs.load_state_dict(
        jax.tree.map(lambda x: torch.tensor(np.asarray(x)) if hasattr(x, "shape") else x, saved)
    )
    again, state = torchwise.from_state_dict(saved, PARAMS)
    assert_same(torchwise.to_state_dict(again, state, PARAMS), saved)


def test_masked_optimizers_one_after_the_other_become_groups():
    mask = {"a": True, "b": False}
    rest = {"a": False, "b": True}
    transform = optax.chain(optax.masked(sgd(), mask), optax.masked(sgd(0.01), rest))
    saved = written(transform)
    assert [group["param_names"] for group in saved["param_groups"]] == [["a"], ["b.c", "b.d"]]


@pytest.mark.parametrize(
    "freeze",
    [
        lambda inner: optax.partition({"one": inner, "two": optax.set_to_zero()}, lambda _: LABELS),
        lambda inner: optax.chain(
            optax.masked(inner, jax.tree.map(lambda x: x == "one", LABELS)),
            optax.masked(optax.set_to_zero(), jax.tree.map(lambda x: x == "two", LABELS)),
        ),
    ],
)
def test_frozen_parameters_are_in_no_group(freeze):
    saved = written(freeze(sgd()))
    (group,) = saved["param_groups"]
    assert group["param_names"] == ["a", "b.d"]
    assert list(saved["state"]) == group["params"] == [0, 1]
    for names in (["b.d", "a"], ["b.d", "b.c", "a"]):
        (group,) = written(freeze(sgd()), names=names)["param_groups"]
        assert group["param_names"] == ["b.d", "a"]
    with pytest.raises(ValueError, match="missing 'a'"):
        written(freeze(sgd()), names=["b.d"])


@pytest.mark.parametrize(
    "rate", [0.25, optax.linear_schedule(0.5, 0.0, 8)], ids=["number", "schedule"]
)
def test_injected_hyperparameters_are_those_of_the_next_step(rate):
    inject = optax.inject_hyperparams(torchwise.sgd)
    transform = optax.chain(optax.clip(9.0), inject(lr=rate, momentum=0.5, nesterov=True))
    saved = written(transform)
    expected = written(torchwise.sgd(rate, momentum=0.5, nesterov=True))
    assert saved["param_groups"][0]["lr"] == (0.25 if rate == 0.25 else 0.3125)
    assert_same(saved, expected)


def test_an_injected_rate_that_was_changed_by_hand_is_written():
    transform = optax.inject_hyperparams(torchwise.adam)(lr=0.5)
    state, params = run(transform)
    state.hyperparams["lr"] = 0.25
    saved = torchwise.to_state_dict(transform, state, params)
    assert saved["param_groups"][0]["lr"] == 0.25
    assert saved["state"][0]["step"] == 3


class Model(nnx.Module):
    def __init__(self):
        self.linear = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))


TORCHS_ORDER = ["linear.weight", "linear.bias", "norm.weight", "norm.bias"]


@pytest.mark.parametrize("around", ["plain", *AROUND])
@pytest.mark.parametrize("inner", [sgd(), torchwise.adam(0.1)], ids=["SGD", "Adam"])
def test_the_optimizer_of_flax(around, inner):
    transform = AROUND[around](inner) if around in AROUND else inner
    model = Model()
    optimizer = nnx.Optimizer(model, transform, wrt=nnx.Param)
    for _ in range(2):
        with jax.numpy_dtype_promotion("standard"):
            optimizer.update(model, nnx.state(model, nnx.Param))
    params, layout = nnx.state(model, nnx.Param), torchwise.layouts.flax_nnx(model)
    options = {"layout": layout, "names": TORCHS_ORDER}
    saved = torchwise.to_state_dict(transform, optimizer.opt_state, params, **options)
    state = chain_state(nnx.as_pure(optimizer.opt_state))
    expected = torchwise.to_state_dict(inner, state, nnx.as_pure(params), **options)
    assert_same(saved, expected)
    assert saved["param_groups"][0]["param_names"] == TORCHS_ORDER


def test_the_groups_of_the_optimizer_of_flax():
    model = Model()

    def labels(tree):
        return jax.tree.map(lambda x: "matrix" if x.ndim > 1 else "vector", tree)

    transform = optax.partition({"matrix": sgd(weight_decay=0.5), "vector": sgd()}, labels)
    optimizer = nnx.Optimizer(model, transform, wrt=nnx.Param)
    params = nnx.state(model, nnx.Param)
    optimizer.update(model, params)
    layout = torchwise.layouts.flax_nnx(model)
    options = {"layout": layout, "names": TORCHS_ORDER}
    saved = torchwise.to_state_dict(transform, optimizer.opt_state, params, **options)
    assert [group["param_names"] for group in saved["param_groups"]] == [
        ["linear.weight"],
        ["linear.bias", "norm.weight", "norm.bias"],
    ]
    assert saved["state"][0]["momentum_buffer"].shape == (3, 2)


@pytest.mark.parametrize("form", [lambda state: state, nnx.as_pure], ids=["variables", "arrays"])
def test_grouped_in_the_optimizer_of_flax(form):
    """It passes variables to `init`, and arrays to `update`; groups may be made of either."""

    def start(transform):
        model = Model()
        return model, nnx.Optimizer(model, transform, wrt=nnx.Param)

    params = form(nnx.state(Model(), nnx.Param))
    groups = [{}, {"match": ["*.bias", "norm.scale"], "weight_decay": 0.0}]
    transform = torchwise.grouped(torchwise.adam, params, groups, lr=0.1, weight_decay=0.5)
    grads = jax.tree.map(jnp.ones_like, nnx.state(Model(), nnx.Param))
    model, optimizer = start(transform)
    state = transform.init(params)
    for _ in range(2):
        optimizer.update(model, grads)
        updates, state = transform.update(form(grads), state, params)
        params = optax.apply_updates(params, updates)
    after = nnx.state(model, nnx.Param)
    assert_same_arrays(after, params)

    options = {"layout": torchwise.layouts.flax_nnx(model), "order": "given"}
    saved = torchwise.to_state_dict(transform, optimizer.opt_state, after, **options)
    assert_same(saved, torchwise.to_state_dict(transform, state, params, **options))
    assert [group["weight_decay"] for group in saved["param_groups"]] == [0.5, 0.0]

    loaded, state = torchwise.from_state_dict(saved, form(after), layout=options["layout"])
    resumed, again = start(loaded)
    nnx.update(resumed, after)
    nnx.update(again.opt_state, nnx.state(nnx.as_pure(state)))
    optimizer.update(model, grads)
    again.update(resumed, grads)
    assert_same_arrays(nnx.state(model, nnx.Param), nnx.state(resumed, nnx.Param))


def test_groups_of_other_parameters_in_the_optimizer_of_flax():
    params = nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Param)
    groups = [{}, {"match": "bias", "weight_decay": 0.0}]
    transform = torchwise.grouped(torchwise.adam, params, groups, weight_decay=0.5)
    with pytest.raises(ValueError, match="the groups were made for other parameters"):
        nnx.Optimizer(Model(), transform, wrt=nnx.Param)


REFUSED = {
    "decay before": (
        lambda: optax.chain(optax.add_decayed_weights(0.1), sgd()),
        "add_decayed_weights stands before the optimizer in optax.chain, and torch has no place "
        "for it; pass weight_decay= to the optimizer",
    ),
    "masked decay": (
        lambda: optax.chain(
            optax.masked(optax.add_decayed_weights(0.1), {"a": True, "b": False}), sgd()
        ),
        "add_decayed_weights stands before",
    ),
    "trace before": (
        lambda: optax.chain(optax.trace(0.9), sgd()),
        "trace stands before the optimizer in optax.chain, and torch has no place for its state",
    ),
    "scale behind": (
        lambda: optax.chain(sgd(), optax.scale(2.0)),
        "scale stands behind the optimizer in optax.chain, and torch has no place for it",
    ),
    "two": (
        lambda: optax.chain(sgd(), torchwise.adam(0.1)),
        "optax.chain has two optimizers, one after the other, for the same parameters; the second "
        "is chain(Adam(",
    ),
    "mixture": (
        lambda: optax.partition({"one": sgd(), "two": torchwise.adam(0.1)}, LABELS),
        "the groups are of SGD and Adam, but an optimizer of torch is the same for all its groups",
    ),
    "other optimizer": (
        lambda: optax.partition({"one": sgd(), "two": optax.adam(0.1)}, LABELS),
        "chain stands beside the optimizer in optax.partition, and torch has no place for its",
    ),
    "micro batches": (
        lambda: optax.MultiSteps(sgd(), 2),
        "optax.MultiSteps holds the gradients of 1 micro batches, for which torch has no place; "
        "save when a whole batch is done",
    ),
    "flatten": (lambda: optax.flatten(sgd()), "the state is not that of these parameters"),
    "schedule free": (
        lambda: optax.contrib.schedule_free(sgd(), 0.1),
        "torch has no place for the state of schedule_free, which is around 1 torchwise chains",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_torch_has_no_place_for_is_refused_by_name(case):
    make, text = REFUSED[case]
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        written(make())
    assert str(caught.value).startswith("to_state_dict(): ")
