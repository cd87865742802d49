"""Whatever is raised, whenever: the optimizer holds what it held before a call, or after it."""

import copy
import random
import signal
import sys
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interrupts import held, interrupted

from rounds import exhaustive
from torchwise import dragon, optim
from torchwise.nn.utils import clip_grad_norm_, clip_grad_value_
from torchwise.optim.transaction import lock

PARAMS = {"w": np.ones((4, 3), np.float32), "b": np.zeros(3, np.float32)}
MAKERS = {
    "SGD": lambda: optim.SGD(PARAMS, lr=0.1, momentum=0.9),
    "Adam": lambda: optim.Adam(PARAMS, lr=0.1),
}


def loss(params, x):
    return jnp.mean((x @ params["w"] + params["b"] - 1.0) ** 2)


def trained(name):
    """An optimizer whose next step is compiled already, and donates."""
    optimizer = MAKERS[name]()
    for _ in range(2):
        optimizer.train_step(loss, X)
        optimizer.zero_grad()
        optimizer.backward(loss, X)
        optimizer.step()
    return optimizer


X = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 4)


def returned(optimizer):
    transform, params, state = optimizer.to_functional()
    grads = jax.tree.map(jnp.ones_like, params)
    return transform.step(grads, state, params)


CALLS = {
    "step": lambda optimizer, _: optimizer.step(),
    "train_step": lambda optimizer, _: optimizer.train_step(loss, X),
    "first train_step": lambda optimizer, _: optimizer.train_step(loss, X[:1]),
    "load_state_dict": lambda optimizer, given: optimizer.load_state_dict(given["saved"]),
    "add_param_group": lambda optimizer, _: optimizer.add_param_group(
        {"params": {"v": np.ones(2, np.float32)}, "lr": 0.5}
    ),
    "from_functional": lambda optimizer, given: optimizer.from_functional(*given["returned"]),
    "params": lambda optimizer, given: setattr(optimizer, "params", given["params"]),
}


def material(name):
    """An optimizer whose arrays nobody else has, and what the calls take; the same every time."""
    optimizer = trained(name)
    given = {"returned": returned(optimizer), "saved": copy.deepcopy(optimizer.state_dict())}
    given["saved"]["param_groups"][0]["lr"] = 0.25
    for entry in given["saved"]["state"].values():
        entry.update({key: np.asarray(value) * 2 for key, value in entry.items()})
    given["params"] = jax.tree.map(lambda leaf: np.asarray(leaf) + 1, optimizer.params)
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = np.ones(parameter.shape, np.float32)
    optimizer.step()
    return optimizer, given


def outcomes(name, call, points, seed, everywhere=False):
    """Interrupt a call at random lines; return how often it had not happened, and had."""
    print(f"{name} {call}: seed {seed}")
    rng = random.Random(seed)
    optimizer, given = material(name)
    before = held(optimizer)
    CALLS[call](optimizer, given)
    after = held(optimizer)
    assert before != after
    optimizer, given = material(name)
    total, _ = interrupted(lambda: CALLS[call](optimizer, given), 0, everywhere)
    counts = [0, 0]
    for _ in range(points):
        optimizer, given = material(name)
        limit = rng.randint(1, total)
        interrupted(lambda: CALLS[call](optimizer, given), limit, everywhere)  # noqa: B023
        found = held(optimizer)
        assert found in (before, after), f"{name} {call}: line {limit} of {total}"
        counts[found == after] += 1
        optimizer.train_step(loss, X, materialize_grads=True)  # it goes on
    return counts


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", MAKERS)
def test_an_interrupt_leaves_a_call_whole_or_undone(name, call):
    counts = outcomes(name, call, 4, seed=random.randrange(2**32))
    assert sum(counts) == 4


# Python reports an interrupt in a callback of a weak reference, as JAX has them, and goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@exhaustive
@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", MAKERS)
def test_a_thousand_interrupts_leave_calls_whole_or_undone(name, call, everywhere):
    points = 1000 // (2 * len(MAKERS) * len(CALLS)) + 1
    counts = outcomes(name, call, points, random.randrange(2**32), everywhere)
    assert sum(counts) == points


@pytest.mark.parametrize("call", ["step", "train_step"])
@pytest.mark.parametrize("name", MAKERS)
def test_no_python_runs_between_donation_and_results(name, call, monkeypatch):
    """The function that gives arrays up is called from C, and calls no Python."""
    optimizer, given = material(name)
    parameters = optimizer.param_groups[0]["params"]
    arrays = [parameter.own_array for parameter in parameters]
    seen = []

    def profiler(frame, event, argument):
        if event == "c_call" and getattr(argument, "__name__", "") == "extend":
            seen.append("extend")
        elif seen and seen[-1] != "done":
            seen.append("done" if event == "c_return" else frame.f_code.co_qualname)

    sys.setprofile(profiler)
    try:
        CALLS[call](optimizer, given)
    finally:
        sys.setprofile(None)
    assert seen == ["extend", "done"]
    assert all(array.is_deleted() for array in arrays)


def test_signals_in_a_loop_lose_nothing(monkeypatch):
    """Real ones, which come whenever they come; now and then in a callback that swallows them."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    optimizer = trained("SGD")
    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    seen = 0
    try:
        for _ in range(20):
            signal.setitimer(signal.ITIMER_REAL, 0.003 + 0.004 * random.random())
            try:
                for _ in range(200):
                    optimizer.train_step(loss, X)
            except KeyboardInterrupt:
                seen += 1
            except ValueError as error:  # JAX makes one of it where it compares static arguments
                if "KeyboardInterrupt" not in str(error):
                    raise
                seen += 1
            assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(optimizer.params))
            assert set(optimizer.state_dict()["state"]) == {0, 1}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        with pytest.raises(RuntimeError, match="un-acquired lock"):
            lock.release()  # nobody would get it any more
    assert seen >= 10


def test_another_thread_may_read_while_one_trains():
    optimizer, stop, errors = trained("Adam"), threading.Event(), []
    (first, _) = optimizer.param_groups[0]["params"]

    def read():
        try:
            while not stop.is_set():
                held(optimizer)
                np.asarray(first.data)
                dict(optimizer.state[first])
                copy.deepcopy(optimizer)
        except Exception as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(150):
            optimizer.train_step(loss, X)
    finally:
        stop.set()
        reader.join()
    assert not errors


# Gradients, which a step would take as they are.


def grads_of(optimizer):
    """All gradients, as bytes."""
    parameters = optimizer.param_groups[0]["params"]
    return [None if one.grad is None else np.asarray(one.grad).tobytes() for one in parameters]


def clipped(optimizer):
    clip_grad_norm_(optimizer.param_groups[0]["params"], 0.125)


GRADIENT_CALLS = {
    "backward": (optim.SGD, lambda optimizer: optimizer.backward(loss, X)),
    "zero_grad": (optim.SGD, lambda optimizer: optimizer.zero_grad()),
    "zeros": (optim.SGD, lambda optimizer: optimizer.zero_grad(set_to_none=False)),
    "clip_grad_norm_": (optim.SGD, clipped),
    "clip_grad_value_": (
        optim.SGD,
        lambda optimizer: clip_grad_value_(optimizer.param_groups[0]["params"], 0.125),
    ),
    "Dragon's backward": (dragon.SGD, lambda optimizer: optimizer.backward(loss, X)),
    "Dragon's zero_grad": (dragon.SGD, lambda optimizer: optimizer.zero_grad()),
}


@pytest.mark.parametrize("name", GRADIENT_CALLS)
def test_an_interrupt_leaves_all_gradients_or_none_replaced(name):
    make, call = GRADIENT_CALLS[name]
    optimizer = make(PARAMS, lr=0.1)

    def start():
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = np.ones(parameter.shape, np.float32)

    start()
    before = grads_of(optimizer)
    call(optimizer)
    after = grads_of(optimizer)
    assert before[0] != after[0]
    assert before[1] != after[1]
    for _ in range(2):
        start()
        total, _ = interrupted(lambda: call(optimizer), 0)
    found = []
    for limit in [1, *range(max(2, total - 60), total + 1)]:
        call(optimizer)  # what an interrupt has left unfinished would cost lines of this call
        start()
        interrupted(lambda: call(optimizer), limit)
        found.append(grads_of(optimizer))
        assert found[-1] in (before, after), f"line {limit} of {total}"
    assert before in found
    assert after in found


def test_an_interrupt_leaves_the_sums_of_dragon_with_the_parameters():
    """A step that has happened has used its sums up; they would be taken a second time."""
    optimizer = dragon.SGD(PARAMS, lr=0.1, momentum=0.9)

    def start():
        optimizer.backward(loss, X)
        optimizer.accumulate_grad()

    for _ in range(2):
        start()
        optimizer.step()
    start()
    total, _ = interrupted(optimizer.step, 0)
    done = []
    for limit in [1, *range(max(2, total - 60), total + 1)]:
        start()
        before = held(optimizer)
        interrupted(optimizer.step, limit)
        done.append(held(optimizer) != before)
        assert bool(optimizer._sums) != done[-1], f"line {limit} of {total}"
        optimizer.zero_grad(reset=True)
    assert any(done)
    assert not all(done)


# Errors of the program itself.


def failing(how):
    def with_error(params, x, bad):
        value = loss(params, x)
        if how == "error_if":
            return eqx.error_if(value, bad, "too large")
        if how == "debug.callback":
            jax.debug.callback(raise_if, bad)
            return value
        return value + jax.pure_callback(
            raise_if, jax.ShapeDtypeStruct((), jnp.float32), bad, vmap_method="sequential"
        )

    def raise_if(bad):
        if bad:
            raise ValueError("a message")
        return np.float32(0)

    return with_error


@pytest.mark.parametrize("size", [3, 300_000])
@pytest.mark.parametrize("how", ["error_if", "pure_callback", "debug.callback"])
@pytest.mark.parametrize("method", ["train_step", "backward"])
def test_errors_while_the_program_runs_leave_the_parameters(how, size, method):
    optimizer = optim.SGD({"w": np.ones((4, size), np.float32), "b": np.zeros(size, np.float32)})
    with_error = jax.custom_jvp(failing(how)) if how == "pure_callback" else failing(how)
    if how == "pure_callback":  # which JAX cannot differentiate
        with_error.defjvp(
            lambda primals, tangents: (
                with_error(*primals),
                jax.jvp(lambda params: loss(params, primals[1]), primals[:1], tangents[:1])[1],
            )
        )

    def call(bad):
        bad = jnp.asarray(bad)
        if method == "train_step":
            optimizer.train_step(with_error, X, bad)
        else:
            optimizer.backward(with_error, X, bad)
            optimizer.step()
            optimizer.zero_grad()

    for _ in range(2):
        call(False)

    def raising():
        call(True)
        jax.effects_barrier()  # debug.callback is never waited for

    for _ in range(3):
        before = held(optimizer)
        with pytest.raises(Exception, match=r"a message|too large"):
            raising()
        if how != "debug.callback":
            assert held(optimizer) == before
        call(False)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(optimizer.params))


def test_out_of_memory_leaves_the_parameters():
    def greedy(params, x, huge):
        rows = 2**20 if huge else 2
        square = jnp.cumsum(jnp.ones((rows, rows)) * jnp.sum(x), axis=0)
        return loss(params, x) + 0 * jnp.sort(square, axis=0)[1, 1]

    optimizer = trained("SGD")
    optimizer.train_step(greedy, X, False)
    before = held(optimizer)
    with pytest.raises(Exception, match="RESOURCE_EXHAUSTED"):
        optimizer.train_step(greedy, X, True)
    assert held(optimizer) == before
    optimizer.train_step(greedy, X, False)
    assert held(optimizer) != before


def test_an_input_that_is_an_error_leaves_the_parameters():
    """Its computation has failed, or fails only while the step waits for it."""

    def raising(_):
        raise ValueError("a message")

    broken = jax.jit(
        lambda x: jax.pure_callback(raising, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
    )
    optimizer = trained("SGD")
    before = held(optimizer)
    for call in (
        lambda: optimizer.train_step(loss, broken(jnp.asarray(X))),
        lambda: with_gradients(optimizer, broken),
    ):
        with pytest.raises(Exception, match="a message"):
            call()
        assert held(optimizer) == before


def with_gradients(optimizer, broken):
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = broken(jnp.ones(parameter.shape))
    optimizer.step()


def test_debug_nans_leaves_the_parameters():
    optimizer = trained("SGD")
    before = held(optimizer)
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        optimizer.train_step(loss, np.full_like(X, np.nan))
    assert held(optimizer) == before
