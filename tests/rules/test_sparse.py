"""Sparse gradients against real torch, which adds up the values of a row in the entries' order."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from jax.experimental.sparse import BCOO
from test_against_torch import StatefulRun

import cases
import torchwise
from cases import Case
from distance import same_bits, same_numbers, ulps_apart
from functional_run import FunctionalRun, draw, step_of_any
from rounds import both_types
from sparse_gradients import Entries, entries
from torch_oracle import TorchRun, coalescing_in_order, correctly_rounded_sqrt
from torchwise import optim

# Shapes, and how many of their axes are sparse: rows, single elements, rows of rows.
TABLES = [((17, 5), 1), ((40,), 1), ((3, 5, 2), 2)]
SHAPES = [shape for shape, _ in TABLES]
ENTRIES = 24

SPARSE = [
    Case("sparse_adam", cases.SPARSE_ADAM, {"lr": 0.01}),
    Case(
        "sparse_adam of all options",
        cases.SPARSE_ADAM,
        {"lr": 0.1, "betas": (0.3, 0.5), "eps": 1e-3, "maximize": True},
    ),
    Case("adagrad", cases.ADAGRAD, {"lr": 0.1, "lr_decay": 0.01, "initial_accumulator_value": 0.2}),
    Case("adagrad up", cases.ADAGRAD, {"lr": 0.1, "maximize": True}),
    Case("sgd", cases.SGD, {"lr": 0.1}),
    Case("sgd up", cases.SGD, {"lr": 0.013, "maximize": True}),
]
ADAM = SPARSE[0]


def named(chosen, daily=(ADAM,)):
    """Cases as parameters of a test; those that are not daily are slow."""
    marks = {False: pytest.mark.slow, True: ()}
    return [pytest.param(case, id=case.name, marks=marks[case in daily]) for case in chosen]


@pytest.fixture(params=both_types())
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@contextlib.contextmanager
def exact_torch():
    with correctly_rounded_sqrt(), coalescing_in_order():
        yield


def drawn(rng, dtype, count=ENTRIES, most=None):
    return [entries(rng, shape, axes, count, dtype, most) for shape, axes in TABLES]


def theirs_of(case, grads):
    """SGD does not coalesce: it adds every entry by itself, unless there is one for a row."""
    adds_up = case.optimizer is cases.SGD
    return [grad.theirs_added_up if adds_up else grad.theirs for grad in grads]


def assert_equal(ours, theirs, case):
    assert all(map(same_numbers, ours.params, theirs.params))
    for key in case.optimizer.state_keys if case.optimizer is not cases.SGD else ():
        assert all(map(same_numbers, ours.states(key), theirs.states(key))), key


def walk(ours, theirs, case, rng, dtype, steps, count=ENTRIES, most=None):
    for _ in range(steps):
        grads = drawn(rng, dtype, count, most)
        ours.step([grad.ours for grad in grads])
        theirs.step(theirs_of(case, grads))


def both(case, rng, dtype, make=FunctionalRun):
    params = draw(rng, SHAPES, dtype)
    ours = FunctionalRun(case.transform, params) if make is FunctionalRun else make(case, params)
    return ours, TorchRun(case.optimizer.theirs, params, **case.hyperparameters)


@pytest.mark.parametrize("case", named(SPARSE, SPARSE[::2]))
def test_equal_to_the_bit_for_100_steps(case, dtype):
    rng = np.random.default_rng(1)
    ours, theirs = both(case, rng, dtype)
    with exact_torch():
        walk(ours, theirs, case, rng, dtype, 100)
    assert_equal(ours, theirs, case)


@pytest.mark.parametrize("case", named(SPARSE))
def test_the_stateful_class(case, dtype):
    rng = np.random.default_rng(2)
    ours, theirs = both(case, rng, dtype, StatefulRun)
    with exact_torch():
        walk(ours, theirs, case, rng, dtype, 20)
    assert_equal(ours, theirs, case)


@pytest.mark.parametrize("case", named(SPARSE))
def test_torchs_own_order_where_no_row_is_named_more_than_twice(case):
    """A sum of two is the same in any order."""
    rng = np.random.default_rng(3)
    ours, theirs = both(case, rng, "float32")
    with correctly_rounded_sqrt():
        walk(ours, theirs, case, rng, "float32", 10, count=20, most=2)
    assert_equal(ours, theirs, case)


@pytest.mark.slow
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in SPARSE[:2]])
@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_half_types(case, half):
    """Of SparseAdam; in the others torch rounds the product with the rate: docs/differences.md."""
    rng = np.random.default_rng(1)
    half = jnp.dtype(half)
    ours, theirs = both(case, rng, half)
    with exact_torch():
        walk(ours, theirs, case, rng, half, 20)
    assert_equal(ours, theirs, case)


def test_hyperparameters_that_are_data():
    rng = np.random.default_rng(4)
    params = draw(rng, SHAPES, "float32")
    with exact_torch():
        for given in ({"lr": 0.5, "betas": (0.75, 0.5)}, {"lr": 0.25, "betas": (0.5, 0.875)}):
            transform = torchwise.sparse_adam(eps=2**-20, **given)
            ours = FunctionalRun(transform, params)
            ours._step = lambda *args, transform=transform: step_of_any(transform, *args)
            theirs = TorchRun(torch.optim.SparseAdam, params, eps=2**-20, **given)
            walk(ours, theirs, ADAM, rng, "float32", 5)
            assert_equal(ours, theirs, ADAM)


def test_an_array_for_a_learning_rate_is_a_tensor_in_torch():
    rng = np.random.default_rng(5)
    params = draw(rng, SHAPES, "float32")
    lr = np.float32(0.1)
    ours = StatefulRun(Case("", cases.SPARSE_ADAM, {"lr": jnp.asarray(lr)}), params)
    theirs = TorchRun(torch.optim.SparseAdam, params, lr=torch.tensor(lr))
    with exact_torch():
        walk(ours, theirs, ADAM, rng, "float32", 5)
    assert_equal(ours, theirs, ADAM)


def test_half_a_sum_per_entry_is_what_sgd_differs_by_from_torch():
    """Torch's SGD adds each entry to the parameter, and rounds; here they are added up first."""
    rng = np.random.default_rng(6)
    case, shape, count = SPARSE[4], (17, 5), 48
    (param,) = draw(rng, [shape], "float32")
    ours = FunctionalRun(case.transform, [param])
    theirs = TorchRun(torch.optim.SGD, [param], **case.hyperparameters)
    grad = entries(rng, shape, 1, count, "float32")
    ours.step([grad.ours])
    theirs.step([grad.theirs])
    named_most = np.bincount(grad.indices[:, 0]).max()
    reach = np.abs(param)
    np.add.at(reach, grad.indices[:, 0], 0.1 * np.abs(grad.values))
    assert 0 < ulps_apart(ours.params[0], theirs.params[0], reach) <= named_most


@pytest.mark.parametrize("case", named(SPARSE[::2]))
@pytest.mark.parametrize("stateful", [False, True])
def test_a_gradient_without_entries_counts_a_step_and_moves_nothing(case, stateful):
    rng = np.random.default_rng(7)
    ours, theirs = both(case, rng, "float32", StatefulRun if stateful else FunctionalRun)
    with exact_torch():
        for count in (3, 0, 3):
            walk(ours, theirs, case, rng, "float32", 1, count)
    assert_equal(ours, theirs, case)
    if case.optimizer.counts:
        assert [int(step) for step in ours.states("step")] == [3] * len(SHAPES)


@pytest.mark.parametrize("case", named(SPARSE[::2]))
def test_only_the_rows_that_are_named_change(case):
    table = jnp.full((50, 3), 0.5)
    indices = np.array([[7], [3], [7], [50], [-2]])  # 50 is padding, -2 the last but one
    grad = BCOO((jnp.ones((5, 3)), indices), shape=table.shape)
    transform = case.transform
    state = transform.init(table)
    first = BCOO((jnp.ones((50, 3)), np.arange(50)[:, None]), shape=(50, 3))
    step = jax.jit(lambda params, state, grads: transform.step(grads, state, params))
    table, state = step(table, state, first)
    new, after = step(table, state, grad)
    touched = np.isin(np.arange(50), [3, 7, 48])
    arrays = zip(jax.tree.leaves((table, state.states)), jax.tree.leaves((new, after.states)))
    for old, now in arrays:
        assert same_bits(old[~touched], now[~touched])
        assert np.all(np.asarray(old != now)[touched])
    dense = np.asarray(grad.todense())
    again = BCOO((dense[touched], np.flatnonzero(touched)[:, None]), shape=(50, 3))
    assert same_bits(new, step(table, state, again)[0])


def stepping(transform):
    return jax.jit(
        lambda params, state, grads: transform.step(grads, state, params), donate_argnums=(0, 1)
    )


@pytest.mark.parametrize("case", named(SPARSE[::2]))
@pytest.mark.parametrize("axes", [1, 2])
def test_no_temporary_of_the_size_of_the_table(case, axes):
    shape, count = (100_000, 64), 100
    table = jax.ShapeDtypeStruct(shape, jnp.float32)
    state = jax.eval_shape(case.transform.init, table)
    grad = BCOO((jnp.zeros((count, *shape[axes:])), jnp.zeros((count, axes), int)), shape=shape)
    compiled = stepping(case.transform).lower(table, state, grad).compile()
    memory = compiled.memory_analysis()
    size = sum(leaf.size * 4 for leaf in jax.tree.leaves((table, state.states)))
    assert memory.temp_size_in_bytes < 20 * count * 64 * 4
    assert memory.alias_size_in_bytes >= size
    assert "f32[100000,64]" not in "".join(
        line for line in compiled.as_text().splitlines() if " copy(" in line
    )


def test_one_program_whatever_the_rows():
    rng = np.random.default_rng(8)
    step, transform = stepping(ADAM.transform), ADAM.transform
    (table,) = map(jnp.asarray, draw(rng, [(17, 5)], "float32"))
    state = transform.init(table)
    for _ in range(3):
        grad = entries(rng, (17, 5), 1, ENTRIES, "float32").ours
        table, state = step(table, state, grad)
    assert step._cache_size() == 1
    assert state.step == 3


def test_a_scan_over_batches():
    rng = np.random.default_rng(9)
    given = [entries(rng, (17, 5), 1, 6, "float32") for _ in range(5)]
    (table,) = map(jnp.asarray, draw(rng, [(17, 5)], "float32"))
    transform = ADAM.transform

    def body(carry, batch):
        params, state = carry
        return transform.step(BCOO(batch, shape=(17, 5)), state, params), None

    stacked = tuple(
        jnp.stack([jnp.asarray(getattr(one, name)) for one in given])
        for name in ("values", "indices")
    )
    scanned, _ = jax.jit(lambda p, s, b: jax.lax.scan(body, (p, s), b))(
        table, transform.init(table), stacked
    )[0]
    looped = FunctionalRun(transform, [table])
    for one in given:
        looped.step([one.ours])
    assert same_bits(scanned, looped.params[0])


def test_dense_and_sparse_gradients_in_one_tree_with_a_block_in_front():
    transform = torchwise.chain(torchwise.clip_each_by_norm(1.0), torchwise.adagrad(0.1))
    params = {"table": jnp.ones((5, 3)), "bias": jnp.ones(3)}
    table = Entries(np.array([[1], [1]]), np.full((2, 3), 4.0, np.float32), (5, 3)).ours
    grads = {"table": table, "bias": jnp.ones(3)}
    step = jax.jit(lambda grads: transform.step(grads, transform.init(params), params))
    sparse, _ = step(grads)
    whole, _ = step({**grads, "table": table.todense()})
    assert same_bits(sparse["bias"], whole["bias"])
    assert ulps_apart(sparse["table"], whole["table"]) <= 1


def outcome(call):
    try:
        call()
    except Exception as error:
        return type(error), str(error)
    return None


def one_row(shape=(2,), axes=1):
    return entries(np.random.default_rng(0), shape, axes, 1, "float32")


REFUSED = {
    name: (row, {}, row.shape)
    for name, row in (cases.OPTIMIZERS | cases.WITH_SUMS).items()
    if name not in ("sgd", "adagrad")
}
REFUSED["adagrad with decay"] = (cases.ADAGRAD, {"weight_decay": 0.1}, (2,))
REFUSED["adam with decay"] = (cases.ADAM, {"weight_decay": 0.1, "maximize": True}, (2,))


@pytest.mark.parametrize("name", REFUSED)
def test_refused_as_torch_does(name):
    row, given, shape = REFUSED[name]
    grad, param = one_row(shape), np.ones(shape, np.float32)
    theirs = TorchRun(row.theirs, [param], **given)
    expected = outcome(lambda: theirs.step([grad.theirs]))
    assert expected[0] is RuntimeError
    transform, params = row.ours(**given), [jnp.asarray(param)]
    state = transform.init(params)
    assert outcome(lambda: transform.step([grad.ours], state, params)) == expected
    optimizer = getattr(optim, row.stateful)([param], **given)
    optimizer.param_groups[0]["params"][0].grad = grad.ours
    before = str(optimizer.state_dict())
    assert outcome(optimizer.step) == expected
    assert same_bits(optimizer.params[0], param)
    assert str(optimizer.state_dict()) == before


def test_a_block_of_ones_own_refuses_unless_it_says_that_it_takes_rows():
    class Doubled(torchwise.Block):
        def direction(self, grad, state, param, n):
            return 2 * grad

    class Taking(Doubled):
        def for_gradient(self, sparse):
            return self

    param, grad = jnp.zeros((3, 2)), one_row((3, 2)).ours
    refusing, taking = (torchwise.chain(block(), torchwise.sgd(0.5)) for block in (Doubled, Taking))
    with pytest.raises(RuntimeError, match="Doubled does not support sparse gradients"):
        refusing.step(grad, refusing.init(param), param)
    assert same_bits(taking.step(grad, taking.init(param), param)[0], param - grad.todense())


def test_sgd_refuses_what_moves_every_row():
    """Torch refuses decay, too; its momentum buffer is sparse and grows with every new row."""
    for given, text in (
        ({"weight_decay": 0.1}, "weight_decay option is not compatible with sparse gradients"),
        ({"momentum": 0.9}, r"momentum is not compatible .*todense\(\)"),
    ):
        transform, param = torchwise.sgd(0.1, **given), jnp.ones(2)
        with pytest.raises(RuntimeError, match=text):
            transform.step(one_row().ours, transform.init(param), param)


def test_dense_gradients_are_refused_as_torch_does():
    param = np.ones(2, np.float32)
    expected = outcome(lambda: TorchRun(torch.optim.SparseAdam, [param]).step([param]))
    transform = torchwise.sparse_adam()
    state = transform.init(jnp.asarray(param))
    for call in (transform.step, transform.update):
        assert outcome(lambda: call(param, state, jnp.asarray(param))) == expected  # noqa: B023
    optimizer = optim.SparseAdam([param])
    assert outcome(lambda: optimizer.train_step(lambda params: params[0].sum())) == expected
    assert same_bits(optimizer.params[0], param)


def test_complex_parameters_are_refused():
    param = jnp.ones(2, jnp.complex64)
    for call in (torchwise.sparse_adam().init, lambda one: optim.SparseAdam([one])):
        with pytest.raises(ValueError, match="SparseAdam does not support complex parameters"):
            call(param)


def test_update_refuses_and_names_step():
    transform, param = torchwise.sgd(0.1), jnp.ones(2)
    outer = optax.chain(transform)
    for one in (transform, outer):
        with pytest.raises(TypeError, match=r"transform\.step\(grads, state, params\)"):
            one.update(one_row().ours, one.init(param), param)


def test_gradients_that_do_not_fit():
    transform, param = torchwise.sgd(0.1), {"w": jnp.ones((3, 2))}
    batched = BCOO.fromdense(jnp.ones((3, 2)), n_batch=1)
    other = BCOO.fromdense(jnp.ones((2, 3)))
    for grad, text in (
        (batched, r"\['w'\]: the gradient is a BCOO with n_batch=1 .*update_layout"),
        (other, r"\['w'\]: the gradient has shape \(2, 3\), the parameter \(3, 2\)"),
    ):
        with pytest.raises(ValueError, match=text):
            transform.step({"w": grad}, transform.init(param), param)
    with pytest.raises(ValueError, match=r"\['v'\]: a gradient of shape \(2, 3\)"):
        transform.step({"v": other}, transform.init(param), param)


def test_sums_of_micro_batches_refuse():
    grad = BCOO.fromdense(jnp.ones(4))
    summed = torchwise.accumulate_gradients(lambda params, batch: (batch.sum(), grad), 2)
    with pytest.raises(TypeError, match="a gradient is sparse: concatenate"):
        summed(jnp.ones(4), jnp.ones(2))
