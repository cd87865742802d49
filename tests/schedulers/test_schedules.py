"""Pure schedules: torch's closed forms to the bit, inside compiled programs, as hyperparameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from scheduler_cases import CASES, OURS, THEIRS, advance, decaying, optimizers

import torchwise
from torch_oracle import correctly_rounded_sqrt
from torchwise import optim, schedules

PURE = [case for case in CASES if case.pure]
IDS = [case.name for case in PURE]
EPOCHS = 300
BASE = 0.1


def of_torch(case, epochs=EPOCHS):
    """torch's rates, by its recursion and by its closed form where it has one."""
    scheduler = case.make(THEIRS, optimizers()[0])
    recursion = list(scheduler.get_last_lr())
    for _ in range(epochs - 1):
        advance(scheduler)
        recursion.append(scheduler.get_last_lr()[0])
    closed = []
    for epoch in range(epochs if hasattr(scheduler, "_get_closed_form_lr") else 0):
        scheduler.last_epoch = epoch
        closed.append(scheduler._get_closed_form_lr()[0])
    return np.asarray(recursion), np.asarray(closed or recursion)


RECURSION_ALONE = ("SequentialLR", "ChainedScheduler", "SWALR")


@pytest.mark.parametrize("case", PURE, ids=IDS)
def test_closed_forms(case):
    """In Python, in a scan, for an array of counts, and among 32-bit types, rounded once."""
    schedule = case.pure(BASE)
    recursion, expected = of_torch(case)
    in_python = np.asarray([schedule(count) for count in range(EPOCHS)])
    if case.name.startswith(RECURSION_ALONE):  # torch has no closed form of these: an ulp is 1e-16
        np.testing.assert_allclose(in_python, recursion, rtol=3e-14, atol=1e-17)
        expected = in_python
    assert np.array_equal(in_python, expected)
    assert all(type(schedule(count)) is float for count in (1, np.int64(3)))
    with jax.numpy_dtype_promotion("standard"):  # functions of the user's
        with jax.enable_x64(True):
            scan = jax.jit(
                lambda: jax.lax.scan(
                    lambda count, _: (count + 1, schedule(count)), jnp.int32(0), length=EPOCHS
                )[1]
            )
            assert np.array_equal(scan(), expected)
            assert schedule(jnp.int32(11)) == expected[11]
        narrow = jax.jit(schedule)(jnp.arange(EPOCHS))
    assert narrow.dtype == jnp.float32
    assert np.array_equal(narrow, expected.astype(np.float32))
    # The recursion, which torch's step() takes, is the same after rounding to float32.
    assert np.array_equal(narrow, recursion.astype(np.float32))


@pytest.mark.exhaustive
@pytest.mark.parametrize("base", [0.1, 0.05, 1e-3, 3e-4, 0.123456789])
@pytest.mark.parametrize("case", PURE, ids=IDS)
def test_closed_forms_of_other_bases(case, base):
    schedule = case.pure(base)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        compiled = jax.jit(schedule)(jnp.arange(2000))
    assert np.array_equal(compiled, [schedule(count) for count in range(2000)])


def walk(transform, start, grads, traces=None):
    """300 steps in one scan."""
    if traces is not None:
        traces.append(transform)

    def step(carry, grad):
        param, state = transform.step(grad, carry[1], carry[0])
        return (param, state), None

    (param, _), _ = jax.lax.scan(step, (start, transform.init(start)), grads)
    return param


def data(size=33):
    random = np.random.default_rng(0)
    return (random.normal(size=shape).astype(np.float32) for shape in (size, (EPOCHS, size)))


@pytest.mark.parametrize("case", PURE, ids=IDS)
def test_a_scan_of_sgd_equals_torch_in_every_bit(case):
    start, grads = data()
    tensor = torch.from_numpy(start.copy())
    scheduler = case.make(THEIRS, torch.optim.SGD([tensor], lr=BASE, momentum=0.9))
    momentum = scheduler.optimizer.param_groups[0]["momentum"]
    rest = {}
    for grad in grads:
        tensor.grad = torch.from_numpy(grad)
        advance(scheduler)
    if "OneCycle" in case.name and scheduler.cycle_momentum:
        momentum = schedules.one_cycle_momentum(
            0.95,
            total_steps=scheduler.total_steps,
            base_momentum=scheduler.optimizer.param_groups[0]["base_momentum"],
            anneal_strategy=scheduler._anneal_func_type,
            three_phase=len(scheduler._schedule_phases) == 3,
        )
    if "Cyclic" in case.name and scheduler.cycle_momentum:
        up = round(scheduler.total_size * scheduler.step_ratio)
        rest = {"mode": scheduler.mode, "step_size_down": round(scheduler.total_size) - up}
        momentum = schedules.cyclic(0.9, scheduler.base_momentums[0], up, **rest)
    transform = torchwise.sgd(lr=case.pure(BASE), momentum=momentum)
    traces = []
    with jax.numpy_dtype_promotion("standard"):
        param = jax.jit(lambda start, grads: walk(transform, start, grads, traces))(start, grads)
    assert np.array_equal(param, tensor.numpy())
    assert len(traces) == 1


def test_any_hyperparameter_may_be_a_schedule():
    """torch's one cycle in AdamW, with the first beta, and a decay that is a schedule as well."""
    start, grads = data()
    tensor = torch.from_numpy(start.copy())
    theirs = THEIRS.OneCycleLR(torch.optim.AdamW([tensor], lr=0.1, weight_decay=0.3), 0.1, EPOCHS)
    decay = schedules.exponential(0.3, 0.99)
    for count, grad in enumerate(grads):
        tensor.grad = torch.from_numpy(grad)
        theirs.optimizer.param_groups[0]["weight_decay"] = decay(count)
        with correctly_rounded_sqrt():
            advance(theirs)
    transform = torchwise.adamw(
        lr=schedules.one_cycle(0.1, EPOCHS),
        betas=(schedules.one_cycle_momentum(0.95, EPOCHS), 0.999),
        weight_decay=decay,
    )
    param = jax.jit(lambda start, grads: walk(transform, start, grads))(start, grads)
    assert np.array_equal(param, tensor.numpy())


def test_first_values_are_checked():
    with pytest.raises(ValueError, match=r"Invalid learning rate: -0\.3"):
        torchwise.sgd(lr=schedules.constant(-0.9))
    with pytest.raises(ValueError, match=r"Invalid momentum value: -1\.0"):
        torchwise.sgd(momentum=lambda count: -1.0)
    with pytest.raises(ValueError, match=r"Invalid beta parameter at index 0: 1\.5"):
        torchwise.adam(betas=(schedules.step(1.5, 3), 0.9))


def test_functions_in_a_tuple():
    transform = torchwise.adam(betas=(lambda count: jnp.where(count > 1, 0.8, 0.9), 0.999))
    start, grads = data(3)
    with jax.numpy_dtype_promotion("standard"):
        walk(transform, jnp.asarray(start), jnp.asarray(grads[:3]))


def test_the_state_dict_has_the_values_of_the_next_step():
    transform = torchwise.adam(
        lr=schedules.step(0.5, 1, 0.5), betas=(schedules.step(0.5, 1, 0.5), 0.999)
    )
    param = jnp.ones(2)
    _, state = transform.step(param, transform.init(param), param)
    group = torchwise.to_state_dict(transform, state, param)["param_groups"][0]
    assert (group["lr"], group["betas"]) == (0.25, (0.25, 0.999))


SAME_KIND = {
    "step": (schedules.step(0.1, 30), schedules.step(1, 7.5, 0.2)),
    "multi_step": (schedules.multi_step(0.1, [3, 5]), schedules.multi_step(0.2, (5, 9.0), 0.3)),
    "cosine": (schedules.cosine_annealing(0.1, 100), schedules.cosine_annealing(1, 77, 0.01)),
    "one_cycle": (schedules.one_cycle(0.1, 100), schedules.one_cycle(1, 77, 0.5)),
    "cyclic": (schedules.cyclic(0.1, 0.2), schedules.cyclic(0.1, 0.7, 3, 4)),
    "restarts": (
        schedules.cosine_annealing_warm_restarts(0.1, 5),
        schedules.cosine_annealing_warm_restarts(0.2, 7, 2, 0.01),
    ),
    "swa": (schedules.swa(0.1, 0.05), schedules.swa(1, 0.2, 0)),
    "lambda_": (schedules.lambda_(0.1, decaying), schedules.lambda_(1, decaying)),
    "sequential": tuple(
        schedules.sequential(
            [schedules.linear(base, 0.1), schedules.every(many, schedules.polynomial(base))], [many]
        )
        for base, many in ((0.1, 5), (1, 9))
    ),
    "chained": tuple(
        schedules.chained([schedules.constant(base), schedules.exponential(base, 0.9)])
        for base in (0.1, 2)
    ),
}


@pytest.mark.parametrize("name", SAME_KIND)
def test_another_schedule_of_the_kind_is_no_other_program(name):
    one, other = SAME_KIND[name]
    assert jax.tree.structure(one) == jax.tree.structure(other)
    start, grads = data(3)
    program = jax.jit(lambda schedule, grads: walk(torchwise.sgd(lr=schedule), start, grads))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        results = [program(schedule, grads) for schedule in (one, other)]
        constant = jax.jit(lambda grads: walk(torchwise.sgd(lr=other), start, grads))(grads)
    assert program._cache_size() == 1
    assert np.array_equal(results[1], constant)


def test_a_schedule_adds_a_few_operations_to_a_program_of_many_arrays():
    """They do not grow with the number of arrays: a cosine against a constant rate."""

    def size(lr, count):
        transform = torchwise.sgd(lr=lr, momentum=0.9)
        params = [jnp.ones(index + 1) for index in range(count)]
        jaxpr = jax.make_jaxpr(transform.step)(params, transform.init(params), params)
        return str(jaxpr).count("\n")

    constant, cosine = (
        [size(lr, count) for count in (4, 24)] for lr in (0.1, schedules.cosine_annealing(0.1, 100))
    )
    assert cosine[0] - constant[0] < 120
    growth = (cosine[1] - constant[1]) - (cosine[0] - constant[0])
    assert growth <= 2 * (24 - 4)  # the rate as an argument of each array's function


def test_in_optax():
    schedule = schedules.cosine_annealing(0.1, 100)
    theirs = optax.sgd(schedule)
    param = jnp.ones(3)
    updates, _ = jax.jit(theirs.update)(param, theirs.init(param))
    assert np.array_equal(updates, np.full(3, -np.float32(0.1)))


# Containers, and what they refuse.


def test_every():
    schedule = schedules.every(10, schedules.exponential(1.0, 0.5), start=2)
    assert [schedule(count) for count in (0, 9, 10, 25)] == [0.25, 0.25, 0.125, 0.0625]
    assert np.array_equal(schedule(jnp.arange(3)), np.full(3, 0.25, np.float32))
    nested = schedules.sequential([schedule, schedules.constant(1.0, 0.5, 5)], [20])
    assert [nested(count) for count in (19, 20, 25)] == [0.125, 0.5, 1.0]


def test_a_chain_of_what_does_not_multiply():
    members = [schedules.exponential(1.0, 0.5), schedules.lambda_(1.0, decaying)]
    with pytest.raises(ValueError, match="the one at index 1 is Lambda"):
        schedules.chained(members)
    for other in (
        schedules.one_cycle(0.1, 50),
        schedules.cyclic(0.1, 0.2),
        schedules.cosine_annealing_warm_restarts(0.1, 5),
        schedules.cosine_annealing(0.1, 5, 0.01),
        schedules.swa(0.1, 0.05),
        schedules.sequential([members[0], members[0]], [2]),
    ):
        with pytest.raises(ValueError, match="the one at index 0"):
            schedules.chained([other])
    chain = schedules.chained([schedules.every(2, schedules.cosine_annealing(1.0, 5)), members[0]])
    assert chain(1) == 0.5


REFUSED = {
    "no schedules": (ValueError, lambda: schedules.sequential([], [])),
    "nothing to chain": (ValueError, lambda: schedules.chained([])),
    "milestones": (ValueError, lambda: schedules.sequential([schedules.step(1, 2)], [3])),
    "decreasing": (ValueError, lambda: schedules.sequential([schedules.step(1, 2)] * 3, [3, 2])),
    "function": (TypeError, lambda: schedules.sequential([decaying], [])),
    "no steps": (ValueError, lambda: schedules.every(0, schedules.step(1, 2))),
    "step_size": (ZeroDivisionError, lambda: schedules.step(0.1, 0)),
    "T_max": (ZeroDivisionError, lambda: schedules.cosine_annealing(0.1, 0)),
    "total_iters": (ZeroDivisionError, lambda: schedules.polynomial(0.1, 0)),
    "zero phase": (ZeroDivisionError, lambda: schedules.one_cycle(0.1, 10, 0.1)),
    "T_0": (ValueError, lambda: schedules.cosine_annealing_warm_restarts(0.1, 2.5)),
    "total_steps": (ValueError, lambda: schedules.one_cycle(0.1, 0)),
    "mode": (ValueError, lambda: schedules.cyclic(0.1, 0.2, mode="square")),
    "factor": (ValueError, lambda: schedules.constant(0.1, 2.0)),
    "anneal_epochs": (ValueError, lambda: schedules.swa(0.1, 0.05, 2.5)),
    "strategy": (ValueError, lambda: schedules.swa(0.1, 0.05, 2, "sine")),
    "no function": (TypeError, lambda: schedules.multiplicative(0.1, 0.5)),
    "plateau": (ValueError, lambda: schedules.reduce_on_plateau(0.1, "middle")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    kind, call = REFUSED[name]
    with pytest.raises(kind):
        call()


def test_a_base_of_several_values_is_refused():
    for several in (jnp.ones(8), np.ones(8)):
        with pytest.raises(TypeError, match=r"linear\(\): base is an array of shape \(8,\)"):
            schedules.linear(several, 0.1)
    values = jax.vmap(lambda base: schedules.linear(base, 0.5, total_iters=2)(0))(jnp.arange(3.0))
    assert values.tolist() == [0.0, 0.5, 1.0]


def test_one_cycle_stays_at_its_end():
    for strategy in ("cos", "linear"):
        schedule = schedules.one_cycle(0.1, 50, anneal_strategy=strategy)
        assert schedule(49) == schedule(50) == schedule(1000) > 0
        assert jax.jit(schedule)(jnp.int32(1000)) == np.float32(schedule(49))


def test_restarts_are_where_torch_goes_step_by_step():
    for factor in (3, 10):
        scheduler = THEIRS.CosineAnnealingWarmRestarts(optimizers()[0], 1, factor)
        schedule = schedules.cosine_annealing_warm_restarts(0.1, 1, factor)
        rates = [scheduler.get_last_lr()[0]]
        for _ in range(1200):
            advance(scheduler)
            rates += scheduler.get_last_lr()
        with jax.enable_x64(True):
            assert np.array_equal(jax.jit(schedule)(jnp.arange(1201)), rates)


# Plateaus.


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_plateau_in_a_scan(mode, threshold_mode):
    options = {"mode": mode, "threshold_mode": threshold_mode, "patience": 2, "cooldown": 1}
    options |= {"factor": 0.7, "min_lr": 1e-3}
    metrics = np.random.default_rng(1).normal(size=200).astype(np.float32)
    metrics[::17] = np.nan
    theirs = THEIRS.ReduceLROnPlateau(optimizers()[0], **options)
    rates = []
    for metric in metrics:
        theirs.step(float(metric))
        rates += theirs.get_last_lr()
    plateau = schedules.reduce_on_plateau(0.1, **options)

    def body(state, metric):
        state = plateau.update(state, metric)
        return state, plateau.value(state)

    state, values = jax.jit(lambda: jax.lax.scan(body, plateau.init(), metrics))()
    assert np.array_equal(values, np.asarray(rates, np.float32))
    found = (float(state.best), int(state.cooldown_counter), int(state.num_bad_epochs))
    assert found == (theirs.best, theirs.cooldown_counter, theirs.num_bad_epochs)
    with jax.enable_x64(True):
        assert float(plateau.value(state)) == rates[-1]


# From a running scheduler.


@pytest.mark.parametrize("case", PURE, ids=IDS)
def test_to_schedule(case):
    scheduler = case.make(OURS, optimizers(groups=2)[1])
    advance(scheduler, 20)
    for group in (0, 1):
        handed = scheduler.to_schedule(group)
        assert handed(20) == pytest.approx(scheduler.get_last_lr()[group], rel=1e-12)
        if group == 0:
            pure = case.pure(BASE)
            assert [handed(count) for count in range(60)] == [pure(count) for count in range(60)]


def test_to_schedule_of_momentum():
    for make in (
        lambda optimizer: OURS.OneCycleLR(optimizer, 0.1, 50),
        lambda optimizer: OURS.CyclicLR(optimizer, 0.01, 0.1, 9),
    ):
        for name in ("SGD", "Adam"):
            scheduler = make(optimizers(name)[1])
            schedule = scheduler.to_schedule(key="momentum")
            for epoch in range(30):
                group = scheduler.optimizer.param_groups[0]
                held = group["momentum"] if name == "SGD" else group["betas"][0]
                assert schedule(epoch) == held
                advance(scheduler)


def test_to_schedule_of_swa_starts_from_the_rate_that_it_found():
    _, optimizer = optimizers()
    before = OURS.ExponentialLR(optimizer, 0.5)
    scheduler = optim.swa_utils.SWALR(optimizer, 0.5, 10)
    advance(before, 3)
    with pytest.raises(ValueError, match="written by another scheduler"):
        scheduler.to_schedule()
    advance(scheduler, 4)
    handed, base = scheduler.to_schedule(), before.get_last_lr()[0]
    assert handed(0) == pytest.approx(base, rel=1e-14)
    for epoch in range(4, 15):
        assert handed(epoch) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-14)
        advance(scheduler)
    resumed = optim.swa_utils.SWALR(optimizer, 0.25, 4, last_epoch=9)
    advance(resumed, 2)
    handed = resumed.to_schedule()
    assert [handed(epoch) for epoch in (10, 12, 14, 20)] == [0.5, 0.375, 0.25, 0.25]


def test_to_schedule_of_swa_in_a_sequence():
    """The rate that it will find is not known before its turn."""
    _, optimizer = optimizers()
    members = [OURS.ExponentialLR(optimizer, 0.9), optim.swa_utils.SWALR(optimizer, 0.5)]
    scheduler = OURS.SequentialLR(optimizer, members, [5])
    advance(scheduler, 4)
    with pytest.raises(NotImplementedError, match="when its turn comes, which is not yet"):
        scheduler.to_schedule()
    advance(scheduler, 3)
    handed = scheduler.to_schedule()
    for epoch in range(7, 18):
        assert handed(epoch) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-14)
        advance(scheduler)


def test_to_schedule_refuses_what_it_cannot_know():
    _, optimizer = optimizers()
    scheduler = OURS.StepLR(optimizer, 5)
    with pytest.raises(ValueError, match="no schedule of 'momentum'"):
        scheduler.to_schedule(key="momentum")
    optimizer.param_groups[0]["lr"] = 0.3
    with pytest.raises(ValueError, match=r"lr of group 0 is 0\.3, but at epoch 0 StepLR has 0\.1"):
        scheduler.to_schedule()
    with pytest.raises(NotImplementedError, match="follows a metric"):
        OURS.ReduceLROnPlateau(optimizer).to_schedule()

    class Own(OURS.LRScheduler):
        def get_lr(self):
            return self.base_lrs

    with pytest.raises(NotImplementedError, match="any function of the count"):
        Own(optimizer).to_schedule()


def test_a_run_is_handed_over_in_mid_run():
    """Stateful up to step 20, then a scan: as 60 stateful steps."""
    start, grads = data(5)
    optimizer = optim.SGD([start], lr=0.1, momentum=0.9)
    scheduler = OURS.CosineAnnealingLR(optimizer, 60)
    parameter = optimizer.param_groups[0]["params"][0]

    def train(rows):
        for grad in rows:
            parameter.grad = jnp.asarray(grad)
            advance(scheduler)

    train(grads[:20])
    _, params, state = optimizer.to_functional()
    transform = torchwise.sgd(lr=scheduler.to_schedule(), momentum=0.9)
    state = state._replace(step=jnp.asarray(scheduler.last_epoch, jnp.int32))
    for grad in grads[20:60]:
        params, state = transform.step([jnp.asarray(grad)], state, params)
    train(grads[20:60])
    assert np.array_equal(params[0], optimizer.params[0])
