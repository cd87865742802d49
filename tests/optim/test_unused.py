"""A parameter on which the loss does not depend has no gradient, as in torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax

from torchwise import dragon, optim

ONES = np.ones(3, np.float32)


@jax.custom_vjp
def twice(w, u):
    return 2 * w


twice.defvjp(lambda w, u: (2 * w, None), lambda _, g: (2 * g, None))


def in_scan(w, u):
    def body(carry, _):
        return (carry[0] * w, carry[1] + 1, carry[2]), jnp.sum(carry[1])

    return lax.scan(body, (w, u, u), length=2)[0][0]


def late_in_scan(w, u):
    """It arrives in the loss by the last of three carries, after three iterations."""

    def body(carry, _):
        a, b, c, d = carry
        return (a + b, b + c, c + d, d), None

    return lax.scan(body, (w, w, w, u), length=5)[0][0]


UNUSED = {
    "not at all": lambda w, u: w,
    "stop_gradient": lambda w, u: w * lax.stop_gradient(u),
    "compared": lambda w, u: jnp.where(u > 0, w, -w),
    "rounded to integers": lambda w, u: w * u.astype(jnp.int32).astype(jnp.float32),
    "in a jitted function": jax.jit(lambda w, u: w + 0 * lax.stop_gradient(u)),
    "an argument of jit": lambda w, u: jax.jit(lambda w, u: (w, u * 2))(w, u)[0],
    "in scan": in_scan,
    "in cond": lambda w, u: lax.cond(jnp.sum(w) > 0, lambda w, u: w, lambda w, u: -w, w, u),
    "in remat": jax.checkpoint(lambda w, u: jnp.sin(w)),
    "under vmap": jax.vmap(lambda a, b: a * 2),
}
USED = {
    "times zero": lambda w, u: w + 0 * u,
    "in one branch": lambda w, u: lax.cond(jnp.sum(w) > 9, lambda w, u: u, lambda w, u: w, w, u),
    "late in scan": late_in_scan,
    "in remat": jax.checkpoint(lambda w, u: w * jnp.sin(u)),
    "in a jitted function": jax.jit(lambda w, u: w * u),
    "a sum alone": lambda w, u: w + jnp.sum(u),
    "a relu that is off": lambda w, u: w + jax.nn.relu(-u),
}
CASES = [(f, False) for f in UNUSED.values()] + [(f, True) for f in USED.values()]


@pytest.mark.parametrize(
    ("function", "used"), CASES, ids=[f"unused {name}" for name in UNUSED] + [*USED]
)
def test_which_parameters_have_gradients(function, used):
    optimizer = optim.SGD({"u": ONES, "w": ONES}, lr=0.1, weight_decay=0.5)
    u, w = optimizer.param_groups[0]["params"]

    def loss(params):
        return jnp.sum(function(params["w"], params["u"]))

    optimizer.backward(loss)
    assert w.grad is not None
    assert (u.grad is not None) == used
    optimizer.zero_grad()
    optimizer.backward(loss, materialize_grads=True)
    assert u.grad is not None
    moved = optim.SGD({"u": ONES, "w": ONES}, lr=0.1, weight_decay=0.5)
    moved.train_step(loss)
    assert np.array_equal(moved.params["u"], ONES) != used
    assert not np.array_equal(moved.params["w"], ONES)
    moved.train_step(loss, materialize_grads=True)
    assert not np.array_equal(moved.params["u"], ONES)


def test_a_rule_of_ones_own_that_says_nothing():
    """A rule for gradients may return None, which is zero; torch has no gradient then."""
    optimizer = optim.SGD({"u": ONES, "w": ONES}, lr=0.1, weight_decay=0.5)
    optimizer.train_step(lambda params: jnp.sum(twice(params["w"], params["u"])))
    np.testing.assert_array_equal(optimizer.params["u"], ONES)


@pytest.mark.parametrize("method", ["step", "train_step"])
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_as_torch(name, method):
    options = {"lr": 0.1, "weight_decay": 0.5}
    tensors = [torch.ones(3, requires_grad=True) for _ in range(2)]
    theirs = getattr(torch.optim, name)(tensors, **options)
    ours = getattr(optim, name)([ONES.copy(), ONES.copy()], **options)
    for used in ([0], [0, 1], [1], [0]):
        theirs.zero_grad()
        sum((tensors[index] ** 2).sum() for index in used).backward()
        theirs.step()

        def loss(params, used=tuple(used)):
            return sum(jnp.sum(params[index] ** 2) for index in used)

        if method == "step":
            ours.zero_grad()
            ours.backward(loss)
            ours.step()
        else:
            ours.train_step(loss)
    for tensor, array in zip(tensors, ours.params):
        np.testing.assert_allclose(array, tensor.detach(), rtol=1e-6)
    steps = [float(entry["step"]) for entry in theirs.state_dict()["state"].values() if entry]
    found = [float(one["step"]) for one in ours.state_dict()["state"].values() if "step" in one]
    assert found == steps


def test_dragon_leaves_them_alone():
    optimizer = dragon.SGD({"u": ONES, "w": ONES}, lr=0.1, weight_decay=0.5)
    optimizer.backward(lambda params: jnp.sum(params["w"]))
    optimizer.step()
    np.testing.assert_array_equal(optimizer.params["u"], ONES)
    assert not np.array_equal(optimizer.params["w"], ONES)


def test_a_loss_of_no_parameter_is_refused_as_in_torch():
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.ones(()).backward()
    optimizer = optim.SGD({"w": ONES}, lr=0.1)
    for method in (optimizer.backward, optimizer.train_step):
        with pytest.raises(RuntimeError, match="the loss does not depend on any parameter"):
            method(lambda params: jnp.float32(1.0))
    np.testing.assert_array_equal(optimizer.params["w"], ONES)
