"""What may be passed as params, and the structure that comes back."""

import copy
import pickle

import equinox as eqx
import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distance import same_bits
from rounds import FIRST, each
from torchwise import optim

W, B = jnp.ones((2, 3)), jnp.zeros(3)


def total(params):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ([W, B], None),
        ((W, B), None),
        ({"w": W, "b": B}, ["w", "b"]),
        ({"layer": [W, B]}, ["layer.0", "layer.1"]),
        ([{"w": W}, {"w": B}], ["0.w", "1.w"]),
        ([optim.Parameter(W), optim.Parameter(B)], None),
        ([optim.Parameter(W, "w"), optim.Parameter(B, "b")], ["w", "b"]),
        ([("w", W), ("b", B)], ["w", "b"]),
        ([("w", optim.Parameter(W)), ("b", optim.Parameter(B))], ["w", "b"]),
        ([{"params": [W]}, {"params": [B], "lr": 0.5}], None),
        ([{"params": {"w": W}}, {"params": {"b": B}}], ["w", "b"]),
        ([{"params": [("w", W)]}, {"params": [("b", B)]}], ["w", "b"]),
        ([{"params": optim.Parameter(W)}], None),
        ([{"params": W}], None),
    ],
)
def test_structures_and_names(params, names):
    optimizer = optim.SGD(params, lr=0.1)
    found = [name for group in optimizer.param_groups for name in group.get("param_names", [])]
    assert found == (names or [])
    before = optimizer.params
    optimizer.backward(total)
    optimizer.step()
    assert jax.tree.structure(optimizer.params) == jax.tree.structure(before)
    assert float(total(optimizer.params)) < float(total(before))


def test_names_give_a_dict():
    assert sorted(optim.SGD([("w", W), ("b", B)]).params) == ["b", "w"]


def test_iterators_and_sets():
    holder = optim.Parameter(W)
    assert optim.SGD({holder}).param_groups[0]["params"] == [holder]
    assert len(optim.SGD(iter([W, B])).params) == 2
    assert list(optim.SGD((name, jnp.ones(2)) for name in "ab").params) == ["a", "b"]


def test_equinox_leaves_that_are_no_parameters_pass_through():
    model = eqx.nn.MLP(2, 3, 4, 1, activation=jax.nn.tanh, key=jax.random.key(0))
    optimizer = optim.SGD(model, lr=0.1, momentum=0.9)
    assert len(optimizer.param_groups[0]["params"]) == 4
    x = jnp.ones(2)

    def loss(model, x):
        return jnp.sum(model(x) ** 2)

    first = optimizer.backward(loss, x)
    optimizer.step()
    assert optimizer.params.activation is model.activation
    second = optimizer.train_step(loss, x)
    third = optimizer.train_step(loss, x)
    assert first > second > third
    _, params, state = optimizer.to_functional()
    assert len(jax.tree.leaves(params)) == 4
    optimizer.from_functional(params, state)
    assert isinstance(optimizer.params, eqx.nn.MLP)


def test_nnx_state():
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    graph, state = nnx.split(model)
    optimizer = optim.Adagrad(state, lr=0.1)

    def loss(state, x):
        return jnp.sum(nnx.merge(graph, state)(x) ** 2)

    losses = [optimizer.train_step(loss, jnp.ones(2)) for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]
    assert optimizer.param_groups[0]["param_names"] == ["bias", "kernel"]
    nnx.update(model, optimizer.params)
    assert float(loss(nnx.state(model), jnp.ones(2))) < float(losses[2])


def test_integers_and_strings_pass_through():
    params = {"w": W, "count": jnp.arange(3), "name": "linear", "nothing": None}
    optimizer = optim.SGD(params, lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["w"]
    optimizer.train_step(lambda p: jnp.sum(p["w"]) * p["count"][2].astype(jnp.float32))
    assert optimizer.params["name"] == "linear"
    assert same_bits(optimizer.params["count"], params["count"])
    np.testing.assert_allclose(optimizer.params["w"], 0.8)


def test_a_frozen_parameter_gets_no_gradient():
    w, b = optim.Parameter(W), optim.Parameter(B + 1, requires_grad=False)
    optimizer = optim.SGD([w, b], lr=0.1)
    optimizer.backward(total)
    assert b.grad is None
    optimizer.step()
    optimizer.train_step(total)
    assert same_bits(b.data, B + 1)
    b.requires_grad = True
    optimizer.train_step(total)
    assert not same_bits(b.data, B + 1)


def test_gradients_add_up_and_are_forgotten():
    optimizer = optim.SGD([W], lr=0.1)
    optimizer.backward(total)
    optimizer.backward(total)
    parameter = optimizer.param_groups[0]["params"][0]
    np.testing.assert_array_equal(parameter.grad, 4.0)
    optimizer.zero_grad(set_to_none=False)
    np.testing.assert_array_equal(parameter.grad, 0.0)
    optimizer.zero_grad()
    assert parameter.grad is None


def test_aux():
    optimizer = optim.SGD([W], lr=0.1)

    def loss(params, offset):
        return total(params) + offset, {"offset": offset}

    value, aux = optimizer.backward(loss, 2.0, has_aux=True)
    assert (float(value), float(aux["offset"])) == (8.0, 2.0)
    value, aux = optimizer.train_step(loss, 3.0, has_aux=True)
    assert (float(value), float(aux["offset"])) == (9.0, 3.0)


def stateful(case, params):
    return getattr(optim, case.optimizer.stateful)(params, **case.hyperparameters)


@pytest.mark.parametrize("method", ["step", "train_step"])
@pytest.mark.parametrize("case", each(FIRST, FIRST[:1]))
def test_arrays_that_others_hold_keep_their_values(case, method):
    """Buffers are donated, but never under somebody's hands."""
    given, host = jnp.ones(5), np.ones(5, np.float32)
    optimizer = stateful(case, [given, host])
    snapshots = [(given, host, optimizer.params, optimizer.state_dict())]
    views = np.asarray(optimizer.params[0])
    expected = copy.deepcopy(jax.tree.map(np.array, snapshots))
    for _ in range(3):
        if method == "step":
            optimizer.zero_grad()
            optimizer.backward(total)
            optimizer.step()
        else:
            optimizer.train_step(total)
        snapshots.append((given, host, optimizer.params, optimizer.state_dict()))
        expected.append(copy.deepcopy(jax.tree.map(np.array, snapshots[-1])))
    for kept, wanted in zip(snapshots, expected):
        jax.tree.map(np.testing.assert_array_equal, kept, wanted)
    np.testing.assert_array_equal(views, 1.0)
    assert not np.array_equal(snapshots[1][2][0], snapshots[2][2][0])


@pytest.mark.parametrize("case", each(FIRST, FIRST[:1]))
def test_donation_reuses_the_memory_of_what_nobody_holds(case):
    optimizer = stateful(case, [jnp.ones(100_000)])
    optimizer.train_step(total)  # compiles, on copies
    (parameter,) = optimizer.param_groups[0]["params"]
    pointer = parameter.own_array.unsafe_buffer_pointer()
    optimizer.train_step(total)
    assert parameter.own_array.unsafe_buffer_pointer() == pointer


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
@pytest.mark.parametrize("case", each(FIRST, FIRST[:1]))
def test_copies_go_on_alone_and_without_hooks(case, copied):
    optimizer = stateful(case, {"w": W})
    optimizer.train_step(total)
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append(1))
    other = copied(optimizer)
    other.train_step(total)
    assert calls == []
    assert not same_bits(other.params["w"], optimizer.params["w"])
    optimizer.train_step(total)
    assert calls == [1]
    assert same_bits(other.params["w"], optimizer.params["w"])


def test_parameter_holder():
    parameter = optim.Parameter([1.0, 2.0], name="w")
    assert (parameter.shape, parameter.dtype) == ((2,), jnp.float32)
    assert "'w'" in repr(parameter)
    parameter.data = jnp.zeros(2)
    with pytest.raises(
        ValueError, match=r"parameter 'w' has shape \(2,\), but its gradient \(3,\)"
    ):
        parameter.grad = jnp.ones(3)
    with pytest.raises(TypeError, match="parameter 'w' has dtype float32, but its gradient int32"):
        parameter.grad = jnp.ones(2, jnp.int32)
    with pytest.raises(ValueError, match=r"float32\[2\], but the new data is float32\[3\]"):
        parameter.data = jnp.zeros(3)
    with pytest.raises(TypeError, match="int32"):
        optim.Parameter(jnp.arange(3))


def test_source_memory_of_numpy_is_copied():
    source = np.ones(3, np.float32)
    parameter = optim.Parameter(source)
    source[:] = 7
    np.testing.assert_array_equal(parameter.data, 1.0)
