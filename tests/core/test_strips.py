"""Large parameters are stepped in strips on CPU: the same bits, in place, where it is faster."""

import functools
import re
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import torchwise
from distance import same_bits
from rounds import FIRST, both_types, each
from torchwise import strips
from torchwise.blocks.trace import Trace

STRIPPED = [case for case in FIRST if all(part.in_strips for part in case.transform.parts)]
LARGE = strips.LEAST_BYTES // 4
# Strips with a rest, without one, one strip of short rows, and what is too small.
SHAPES = {
    "prime": (4 * LARGE + 3,),
    "matrix": (512, 4 * LARGE // 512),
    "kernels": (64, 32, 3, 3),
    "small": (5, 3),
}


def tree(seed, dtype, shapes=SHAPES):
    random = np.random.default_rng(seed)
    return {name: jnp.asarray(random.normal(size=shape), dtype) for name, shape in shapes.items()}


def run(step, transform, dtype, steps=3):
    params = tree(0, dtype)
    state = transform.init(params)
    for seed in range(1, steps + 1):
        params, state = step(tree(seed, dtype), state, params)
    return params, state


def jitted(transform):
    """A jit of its own: the same method would be the same program."""

    def step(*args):
        return transform.step(*args, whole_program=True)

    return jax.jit(step)


def donating(transform):
    def step(params, state, grads):
        return transform.step(grads, state, params, whole_program=True)

    return jax.jit(step, donate_argnums=(0, 1))


def loops(transform, params):
    """How many loops the compiled step has, and the bytes of its temporaries."""
    state = jax.eval_shape(transform.init, params)
    compiled = donating(transform).lower(params, state, params).compile()
    return compiled.as_text().count(" while("), compiled.memory_analysis().temp_size_in_bytes


@pytest.fixture(autouse=True)
def two_cores_for_few_loops(monkeypatch):
    monkeypatch.setattr(strips, "_cores", lambda: 2)
    monkeypatch.setattr(strips, "ON_ONE_THREAD", 0)


def cut_nothing(leaves):
    return [False] * len(leaves)


def test_all_elementwise_optimizers_have_strips():
    names = {case.optimizer.stateful for case in STRIPPED}
    assert names == {case.optimizer.stateful for case in FIRST}


@pytest.mark.parametrize("dtype", both_types())
@pytest.mark.parametrize("case", each(STRIPPED, usual=STRIPPED))
def test_strips_have_the_bits_of_whole_parameters(case, dtype, monkeypatch):
    transform = case.transform
    with jax.enable_x64(dtype == "float64"):
        in_strips = run(jitted(transform), transform, dtype)
        monkeypatch.setattr(strips, "fit", cut_nothing)
        whole = run(jitted(transform), transform, dtype)
    assert jax.tree.all(jax.tree.map(same_bits, in_strips, whole))


DIVIDING = {
    "adagrad": torchwise.adagrad(lr=0.1, lr_decay=0.1),
    "rmsprop": torchwise.rmsprop(lr=0.1),
    "adam": torchwise.adam(lr=0.1),
    "amsgrad": torchwise.adamw(lr=0.1, amsgrad=True),
    "adamax": torchwise.adamax(lr=0.1),
    "nadam": torchwise.nadam(lr=0.1, weight_decay=0.1, decoupled_weight_decay=True),
    "radam": torchwise.radam(lr=0.1),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "complex64"])
@pytest.mark.parametrize("name", DIVIDING)
def test_a_parameter_that_divides_is_moved_before_its_states(name, dtype, monkeypatch):
    """To the same bits, also over steps in which numbers and choices change."""
    transform = DIVIDING[name]
    passes = passes_of(monkeypatch)
    with jax.enable_x64(dtype == "float64"):
        in_strips = run(jitted(transform), transform, dtype, steps=8)
        monkeypatch.setattr(strips, "fit", cut_nothing)
        whole = run(jitted(transform), transform, dtype, steps=8)
    assert {one.turns[0].position for one in passes if one.turns} == {0}
    assert len(passes) == len(SHAPES) - 1
    assert jax.tree.all(jax.tree.map(same_bits, in_strips, whole))


def test_states_come_first_where_they_need_the_old_parameter_or_nothing_divides(monkeypatch):
    passes, params = passes_of(monkeypatch), [jnp.ones(LARGE)] * 2
    for transform in (torchwise.adam(lr=0.1, weight_decay=0.1), torchwise.sgd(0.1, momentum=0.9)):
        passes.clear()
        loops(transform, params)
        states, param = passes
        assert 0 not in {turn.position for turn in states.turns}
        assert [turn.position for turn in param.turns] == [0]


@pytest.mark.parametrize("dtype", ["bfloat16", "complex64"])
def test_strips_of_other_types(dtype, monkeypatch):
    transform = torchwise.adamw(lr=1e-2, amsgrad=True)
    in_strips = run(jitted(transform), transform, dtype)
    monkeypatch.setattr(strips, "fit", cut_nothing)
    whole = run(jitted(transform), transform, dtype)
    assert jax.tree.all(jax.tree.map(same_bits, in_strips, whole))


def test_traced_hyperparameters(monkeypatch):
    def jitted_anew():
        def step(lr, *args):
            return torchwise.adamw(lr=lr, weight_decay=lr).step(*args, whole_program=True)

        return jax.jit(step)

    step = jitted_anew()
    plain = torchwise.adamw(lr=0.1, weight_decay=0.1)
    traced = run(lambda *args: step(0.1, *args), plain, "float32")
    monkeypatch.setattr(strips, "fit", cut_nothing)
    again = jitted_anew()
    assert jax.tree.all(
        jax.tree.map(same_bits, traced, run(lambda *args: again(0.1, *args), plain, "float32"))
    )


@pytest.mark.parametrize("case", each(STRIPPED, usual=STRIPPED))
def test_a_loop_for_each_large_parameter_and_no_copies(case):
    params = [jnp.ones((512, 1024)), jnp.ones((1024, 512)), jnp.ones(7)]
    count, temporaries = loops(case.transform, params)
    assert count == 2
    assert temporaries < 4 * strips.STRIP_BYTES * len(jax.tree.leaves(case.transform.init(params)))


def passes_of(monkeypatch):
    """A list to which the passes over a strip will be added, of each parameter that is traced."""
    passes, found = strips._passes, []
    monkeypatch.setattr(strips, "_passes", lambda *args: found.extend(new := passes(*args)) or new)
    return found


def made_in_loops(text):
    """The instructions in loops that compute something, and those of them that are not carried."""
    bodies = re.findall(r"body=%?([\w.-]+)", text)
    made, temporary = [], []
    for name in bodies:
        lines = text.split(f"%{name} (")[1].split("\n}")[0].splitlines()
        found = [re.match(r"\s+%([\w.-]+) = .*?[\])}] (\w[\w-]*)\(", line) for line in lines]
        found = [one for one in found if one and one[2] in ("fusion", "copy", "call")]
        (root,) = (line for line in lines if "ROOT" in line)
        made += [one[1] for one in found]
        temporary += [one[1] for one in found if not re.search(rf"%{re.escape(one[1])}\b", root)]
    return made, temporary


@pytest.mark.parametrize("case", each(STRIPPED, usual=STRIPPED))
def test_loops_have_no_temporaries_that_they_would_share(case, monkeypatch):
    """XLA gives one loop's temporaries to the next, which then waits for it.

    Only where new values need each other's old ones, strips of them are set aside.
    """
    passes = passes_of(monkeypatch)
    params = [jnp.ones(LARGE), jnp.ones(LARGE)]
    state = jax.eval_shape(case.transform.init, params)
    compiled = donating(case.transform).lower(params, state, params).compile()
    made, temporary = made_in_loops(compiled.as_text())
    assert len(made) >= 6
    assert passes
    arrays = len(jax.tree.leaves((params, state)))
    assert bool(temporary) == any(one.turns is None for one in passes), temporary
    assert len(temporary) <= arrays


def test_what_would_keep_other_cores_waiting_is_not_cut():
    transform = torchwise.sgd(lr=0.1, momentum=0.9)
    assert loops(transform, [jnp.ones(LARGE)])[0] == 0
    assert loops(transform, [jnp.ones(2 * LARGE), jnp.ones(LARGE)])[0] == 1
    assert loops(transform, [jnp.ones(LARGE), jnp.ones(LARGE)])[0] == 2


def test_few_parameters_are_left_to_kernels_that_use_all_cores(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(strips, "_cores", lambda: 2)
    transform = torchwise.sgd(lr=0.1, momentum=0.9)
    few, many = [jnp.ones(LARGE)] * strips.ON_ONE_THREAD, [jnp.ones(LARGE)] * 9
    assert loops(transform, few)[0] == 0
    assert loops(transform, many)[0] == 9


def test_short_rows_are_cut_earlier_and_in_any_number(monkeypatch):
    monkeypatch.setattr(strips, "ON_ONE_THREAD", 8)
    transform = torchwise.adam(lr=0.1)
    assert loops(transform, [jnp.ones((32, 32, 3, 3))])[0] == 1
    assert loops(transform, [jnp.ones((1024, 10)), jnp.ones((16, 16, 3, 3))])[0] == 1
    for flat in ((9216,), (288, 32), (9216, 1), (1, 9216), (9216, 2)):
        assert loops(transform, [jnp.ones(flat)])[0] == 0


def test_no_strips_where_a_number_depends_on_others():
    params = [jnp.ones(LARGE), jnp.ones(LARGE)]
    assert (
        loops(
            torchwise.chain(torchwise.clip_each_by_norm(1.0), torchwise.sgd(lr=0.1, momentum=0.9)),
            params,
        )[0]
        == 0
    )


def test_no_strips_for_other_platforms():
    params = [jax.ShapeDtypeStruct((LARGE,), jnp.float32)] * 2
    transform = torchwise.adamw(lr=0.1)
    step = functools.partial(transform.step, whole_program=True)
    traced = jax.jit(step).trace(params, jax.eval_shape(transform.init, params), params)
    assert "while" in traced.lower(lowering_platforms=("cpu",)).as_text()
    for platform in ("cuda", "tpu"):
        assert "while" not in traced.lower(lowering_platforms=(platform,)).as_text()


def test_derivatives_and_batches(monkeypatch):
    """Through the form without a loop, and with one for a batch of parameters."""
    transform, params = torchwise.sgd(lr=0.5, momentum=0.9), [jnp.ones(LARGE), jnp.ones(LARGE)]

    @jax.jit
    def change(scale, params):
        grads = [scale * param for param in params]
        state = transform.init(params)
        return transform.step(grads, state, params, whole_program=True)[0][0].sum() / LARGE

    np.testing.assert_allclose(jax.grad(change)(1.0, params), -0.5, rtol=1e-6)
    batch = [jnp.stack([param, 2 * param]) for param in params]
    np.testing.assert_array_equal(jax.vmap(lambda one: change(1.0, one))(batch), [0.5, 1.0])


class MovesState(NamedTuple):
    sums: Any
    moves: Any


class CountsMoves(torchwise.Rule):
    """One number of its state is finished when the parameter moves."""

    State: ClassVar = MovesState
    in_strips: ClassVar[bool] = True

    def init(self, param):
        return MovesState(jnp.zeros_like(param), jnp.zeros(()))

    def accumulate(self, grad, state, param, n):
        return state._replace(sums=state.sums + grad)

    def conclude(self, base, grad, state, param, n):
        return base - grad, state._replace(moves=state.moves + 1)


def test_a_number_is_finished_once_and_not_in_every_strip():
    params = [jnp.ones(LARGE + 3), jnp.ones(LARGE), jnp.ones(7)]
    transform = torchwise.chain(CountsMoves())
    assert loops(transform, params)[0] == 2
    state = transform.init(params)
    for _ in range(2):
        params, state = jitted(transform)(params, state, params)
    assert [int(moves) for moves in state.states[0].moves] == [2, 2, 2]


class TraceOfMeans(Trace):
    """What a subclass computes needs the whole array, though its base does not."""

    def direction(self, grad, state, param, n):
        return jnp.full_like(grad, jnp.mean(state.momentum_buffer))


def test_a_subclass_that_computes_otherwise_is_not_cut():
    assert Trace.in_strips
    assert not TraceOfMeans.in_strips
    params = [jnp.arange(LARGE) / LARGE, jnp.ones(LARGE)]
    transform = torchwise.chain(TraceOfMeans(0.9), torchwise.sgd(lr=1.0))
    grads = [jnp.arange(LARGE, dtype=jnp.float32), jnp.ones(LARGE)]
    (moved, _), _ = jitted(transform)(grads, transform.init(params), params)
    np.testing.assert_allclose(moved, params[0] - (LARGE - 1) / 2, rtol=1e-5)
