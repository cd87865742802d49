"""To the pure functions and back, exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from distance import same_bits
from rounds import FIRST, names_of
from torchwise import optim

NAMED = [("w", jnp.ones((2, 3))), ("a", jnp.zeros(3)), ("m", jnp.full(2, 2.0))]


def of_case(case):
    return lambda: getattr(optim, case.optimizer.stateful)(NAMED, **case.hyperparameters)


MAKERS = {
    **{case.name: of_case(case) for case in FIRST},
    "groups": lambda: optim.SGD(
        [
            {"params": {"w": jnp.ones(3)}, "momentum": 0.9},
            {"params": {"v": jnp.ones(2), "u": jnp.ones(())}, "lr": 0.5},
            {"params": [("t", jnp.ones(4)), ("s", jnp.ones(1))], "momentum": 0.5, "nesterov": True},
        ],
        lr=0.1,
    ),
}


def loss(params):
    return sum(
        jnp.sum((leaf - index) ** 2) for index, leaf in enumerate(jax.tree.leaves(params), start=1)
    )


def same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    assert all(jax.tree.leaves(jax.tree.map(same_bits, left, right)))


def walk(transform, params, state, steps):
    def body(carry, _):
        params, state = carry
        return transform.step(jax.grad(loss)(params), state, params), None

    return jax.jit(lambda start: lax.scan(body, start, length=steps)[0], donate_argnums=0)(
        (params, state)
    )


@pytest.mark.parametrize("warm_up", [0, 2])
@pytest.mark.parametrize("name", names_of(FIRST, "groups"))
def test_there_and_back_is_the_stateful_run(name, warm_up):
    ours, reference = MAKERS[name](), MAKERS[name]()
    for optimizer in (ours, reference):
        for _ in range(warm_up):
            optimizer.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
    before = ours.params
    transform, params, state = ours.to_functional()
    params, state = walk(transform, params, state, 3)
    same(ours.params, before)  # the arrays went out as copies
    ours.from_functional(params, state)
    for _ in range(3):
        reference.backward(loss)
        reference.step()
        reference.zero_grad()
    same(ours.params, reference.params)
    same(ours.state_dict(), reference.state_dict())


@pytest.mark.parametrize("name", names_of(FIRST, "groups"))
def test_there_and_back_without_a_step_changes_nothing(name):
    optimizer = MAKERS[name]()
    before = optimizer.params, optimizer.state_dict()
    _, params, state = optimizer.to_functional()
    optimizer.from_functional(params, state)
    same((optimizer.params, optimizer.state_dict()), before)


def test_a_stale_buffer_stays():
    optimizer = optim.SGD({"w": jnp.ones(2)}, lr=0.1, momentum=0.9)
    optimizer.train_step(loss)
    optimizer.param_groups[0]["momentum"] = 0
    before = optimizer.state_dict()
    transform, params, state = optimizer.to_functional()
    optimizer.from_functional(*walk(transform, params, state, 2))
    same(optimizer.state_dict()["state"], before["state"])


def test_wrong_returns_change_nothing():
    optimizer = optim.SGD(NAMED, lr=0.1, momentum=0.9, dampening=0.5)
    before = optimizer.state_dict()
    _, params, state = optimizer.to_functional()
    with pytest.raises(ValueError, match=r"params: \['w'\] is float32\[1\].* float32\[2, 3\]"):
        optimizer.from_functional({**params, "w": jnp.ones(1)}, state)
    with pytest.raises(ValueError, match="state: "):
        optimizer.from_functional(params, state._replace(step=None))
    same(optimizer.state_dict(), before)


def test_train_step_is_backward_and_step():
    whole, parts = MAKERS["groups"](), MAKERS["groups"]()
    for _ in range(5):
        ours = whole.train_step(loss)
        theirs = parts.backward(loss)
        parts.step()
        parts.zero_grad()
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        whole.params,
        parts.params,
    )
