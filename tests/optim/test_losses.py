"""What a loss function may be, what it may be given, and when it is compiled."""

import copy
import dataclasses
import functools
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import torchwise
from torchwise import optim
from torchwise.optim import engine


def made():
    return optim.SGD({"w": np.ones(3, np.float32)}, lr=0.1)


def test_a_function_made_anew_at_each_call_is_warned_about_once():
    optimizer = made()

    def steps():
        for factor in range(1, 9):
            optimizer.train_step(lambda params: jnp.sum(params["w"]) * factor)  # noqa: B023

    with pytest.warns(UserWarning, match="loss functions of the same definition") as caught:
        steps()
    assert len(caught) == 1
    text = str(caught[0].message)
    assert (
        "torchwise.optim.classes.SGD has compiled 5 loss functions of the same definition" in text
    )
    assert f"{__file__}:{steps.__code__.co_firstlineno + 2}" in text
    other = made()

    def partials():
        for factor in range(8):
            other.backward(functools.partial(lambda f, params: jnp.sum(params["w"]) + f, factor))

    with pytest.warns(UserWarning, match="define the function outside of the loop"):
        partials()


def test_the_same_function_is_not_warned_about_and_a_short_batch_compiles_once():
    optimizer, traces = made(), []

    def loss(params, x):
        traces.append(x.shape)
        return jnp.mean(x @ params["w"])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for epoch in range(4):
            for rows in (4, 4, 4, 2):
                optimizer.train_step(loss, np.ones((rows, 3), np.float32))
            if epoch == 0:
                programs = engine.train._cache_size()
    assert {*traces} == {(4, 3), (2, 3)}
    assert len(traces) <= 4  # JAX traces for the program what was traced to look at it
    assert engine.train._cache_size() == programs


def test_keywords_and_flags():
    def loss(params, x, *, training=False, name="sum", scale):
        assert type(training) is bool
        assert isinstance(scale, jax.Array)
        return getattr(jnp, name)(params["w"] * x) * (2.0 if training else 1.0) * scale

    optimizer = made()
    assert optimizer.train_step(loss, 1.0, scale=2.0) == 6.0
    assert optimizer.backward(loss, 1.0, training=True, scale=1.0) == pytest.approx(4.8)
    assert optimizer.backward(loss, 1.0, name="mean", scale=1.0) == pytest.approx(0.8)
    lbfgs = optim.LBFGS({"w": np.ones(3, np.float32)}, max_iter=1)
    assert lbfgs.train_step(loss, 1.0, scale=2.0) == 6.0


def test_callables_that_cannot_be_hashed():
    class Loss(eqx.Module):
        target: jax.Array

        def __call__(self, params):
            return jnp.sum((params["w"] - self.target) ** 2)

    function, optimizer = Loss(jnp.zeros(3)), made()
    assert optimizer.train_step(function) == 3.0
    assert optimizer.train_step(functools.partial(function)) < 3.0


WRONG = {
    "value": (lambda p: None, "the loss must be a number, but .* returned a NoneType"),
    "pair": (lambda p: (p["w"][0], 1), "a tuple; is has_aux=True missing?"),
    "vector": (lambda p: p["w"], r"returned float32\[3\]; take its mean or its sum"),
    "complex": (
        lambda p: jax.lax.complex(p["w"][0], p["w"][0]),
        r"must be a real number, .* returned complex64\[\]",
    ),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("method", ["backward", "train_step"])
def test_losses_that_are_none(name, method):
    optimizer = made()
    function, text = WRONG[name]
    with pytest.raises(TypeError, match=text):
        getattr(optimizer, method)(function)
    with pytest.raises(TypeError, match=r"with has_aux=True the loss function returns \(loss, aux"):
        getattr(optimizer, method)(lambda p: jnp.sum(p["w"]), has_aux=True)
    with pytest.raises(TypeError, match=r"not its value: got an array of shape \(\); pass the"):
        getattr(optimizer, method)(jnp.ones(()))
    np.testing.assert_array_equal(optimizer.params["w"], 1.0)


def test_aux_may_be_any_tree_and_is_the_users_own():
    optimizer = made()

    def loss(params):
        return jnp.sum(params["w"]), {"params": params, "none": None}

    kept = []
    for _ in range(3):
        _, aux = optimizer.train_step(loss, has_aux=True)
        kept.append(aux["params"]["w"])
        _, aux = optimizer.backward(loss, has_aux=True)
        kept.append(aux["params"]["w"])
        optimizer.step()
    assert [round(float(one[0]), 4) for one in kept] == [1.0, 0.9, 0.8, 0.7, 0.5, 0.4]


# Who holds an array keeps it.


def alias_of_params(optimizer):
    return jax.device_put(optimizer.params, jax.devices()[0])["w"]


ALIASES = {
    "device_put of params": alias_of_params,
    "data": lambda optimizer: parameter_of(optimizer).data,
    "a shard": lambda optimizer: parameter_of(optimizer).data.addressable_data(0),
    "numpy": lambda optimizer: np.asarray(parameter_of(optimizer).data),
    "dlpack": lambda optimizer: np.from_dlpack(parameter_of(optimizer).data),
    "state": lambda optimizer: optimizer.state[parameter_of(optimizer)]["momentum_buffer"],
    "state dict": lambda optimizer: optimizer.state_dict()["state"][0]["momentum_buffer"],
    "a copied holder": lambda optimizer: copy.copy(parameter_of(optimizer)).data,
    "a copied optimizer": lambda optimizer: copy.copy(optimizer).params["w"],
    "a deep copy": lambda optimizer: copy.deepcopy(optimizer).params["w"],
    "values of the state": lambda optimizer: next(
        iter(optimizer.state[parameter_of(optimizer)].values())
    ),
}


def parameter_of(optimizer):
    return optimizer.param_groups[0]["params"][0]


@pytest.mark.parametrize("name", ALIASES)
def test_aliases_keep_their_values(name):
    given = jax.device_put(jnp.ones(3), jax.devices()[0])
    optimizer = optim.SGD({"w": given}, lr=0.1, momentum=0.9)

    def loss(params):
        return jnp.sum(params["w"] ** 2)

    for _ in range(2):
        optimizer.train_step(loss)
    kept = []
    for _ in range(3):
        alias = ALIASES[name](optimizer)
        kept.append((alias, np.array(alias)))
        optimizer.train_step(loss)
        optimizer.train_step(loss)
    for alias, value in kept:
        np.testing.assert_array_equal(alias, value)
    np.testing.assert_array_equal(given, 1.0)


# A new jit traces anew.


FACTORS = {"2": 1.0, "2.0": 3.0, "0.0": 5.0, "-0.0": 7.0}


class Written(torchwise.Block):
    exponent: float = dataclasses.field(default=2, metadata={"static": True})

    def direction(self, grad, state, param, n):
        return grad * FACTORS[repr(self.exponent)]


def test_a_fresh_jit_traces_a_block_anew(monkeypatch):
    params, grads = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}

    def moved(exponent):
        transform = torchwise.chain(Written(exponent), torchwise.sgd(lr=1.0))
        step = jax.jit(lambda grads, params: transform.step(grads, transform.init(params), params))
        return float(step(grads, params)[0]["w"][0])

    assert [moved(one) for one in (2, 2.0, 0.0, -0.0)] == [-1.0, -3.0, -5.0, -7.0]
    monkeypatch.setitem(FACTORS, "2", 11.0)
    assert moved(2) == -11.0


# States that do not fit pure functions.


def test_states_of_others():
    params, grads = {"w": jnp.ones((2, 3))}, {"w": jnp.ones((2, 3))}
    sgd, adam = torchwise.sgd(lr=0.1, momentum=0.9), torchwise.adam(lr=0.1)
    adagrad = torchwise.adagrad(lr=0.1)
    for call in ("step", "update"):
        for other in (adagrad.init(params), adagrad.init(params)._replace(step=None)):
            with pytest.raises(ValueError, match=r"\(\): the state is that of another transform: "):
                getattr(sgd, call)(grads, other, params)
        with pytest.raises(ValueError, match="not one that init"):
            getattr(adagrad, call)(grads, adam.init(params), params)
        with pytest.raises(ValueError, match="not one that init"):
            getattr(sgd, call)(grads, {"w": 1}, params)
        for shape in ((2, 1), (3, 3), ()):
            other = sgd.init({"w": jnp.ones(shape)})
            text = r"\['w'\]: 'momentum_buffer' has shape .*, but the\s+parameter has \(2, 3\)"
            with pytest.raises(ValueError, match=text):
                getattr(sgd, call)(grads, other, params)
        with pytest.raises(ValueError, match="the state was made for other parameters"):
            getattr(sgd, call)(grads, sgd.init([jnp.ones((2, 3))]), params)
