"""Stateful schedulers: every number at every epoch, every state dict, both ways in mid-run."""

import copy
import pickle
import warnings

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scheduler_cases import (
    CASES,
    CONFIGURATIONS,
    OURS,
    THEIRS,
    advance,
    groups_of,
    kind_of,
    made,
    optimizers,
    plain,
    same,
)

from torchwise import checkpoint, optim

IDS = [case.name for case in CASES]
# A container that is the first member of another steps at once, in torch too.
NESTED = pytest.mark.filterwarnings("ignore:Detected call of")


@NESTED
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_every_epoch_and_every_state_dict(case):
    name = "AdamW" if "base_momentum" in case.name else "SGD"  # both ways to cycle momentum
    theirs, ours = (
        case.make(module, one) for module, one in zip((THEIRS, OURS), optimizers(name, groups=2))
    )
    same(theirs, ours)
    for _ in range(300):
        advance(theirs)
        advance(ours)
        same(theirs, ours)


@NESTED
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_there_and_back_in_mid_run(case, tmp_path):
    theirs, ours = (
        case.make(module, one) for module, one in zip((THEIRS, OURS), optimizers(groups=2))
    )
    advance(theirs, 23)
    saved = {"optimizer": theirs.optimizer.state_dict(), "scheduler": theirs.state_dict()}
    torch.save(saved, tmp_path / "theirs.pt")
    loaded = checkpoint.load(tmp_path / "theirs.pt")
    for state_dicts in (copy.deepcopy(saved), loaded):
        ours.optimizer.load_state_dict(state_dicts["optimizer"])
        ours.load_state_dict(state_dicts["scheduler"])
        same(theirs, ours)
        advance(theirs, 40)
        advance(ours, 40)
        same(theirs, ours)
        theirs.optimizer.load_state_dict(saved["optimizer"])
        theirs.load_state_dict(copy.deepcopy(saved["scheduler"]))
    saved = {"optimizer": ours.optimizer.state_dict(), "scheduler": ours.state_dict()}
    checkpoint.save(tmp_path / "ours.pt", saved)
    again = torch.load(tmp_path / "ours.pt", weights_only=True)
    back = case.make(THEIRS, optimizers(groups=2)[0])
    back.optimizer.load_state_dict(again["optimizer"])
    back.load_state_dict(again["scheduler"])
    same(back, ours)
    advance(back, 300)
    advance(ours, 300)
    same(back, ours)


def check_configuration(configuration, epochs):
    results = []
    for module, optimizer in zip((THEIRS, OURS), optimizers(groups=2)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                scheduler = made(module, optimizer, configuration)
            except ZeroDivisionError:
                scheduler = None
        results.append(scheduler)
    theirs, ours = results
    assert (theirs is None) == (ours is None)
    for _ in range(epochs if theirs is not None else 0):
        errors = []
        for scheduler in (theirs, ours):
            try:
                advance(scheduler)
            except (ValueError, ZeroDivisionError) as error:
                errors.append(type(error))
        assert errors in ([], [ValueError] * 2, [ZeroDivisionError] * 2)
        if errors:
            return
        same(theirs, ours)


@hypothesis.given(CONFIGURATIONS)
@hypothesis.settings(max_examples=15)
def test_random_configurations(configuration):
    check_configuration(configuration, 90)


@pytest.mark.exhaustive
@hypothesis.given(CONFIGURATIONS)
@hypothesis.settings(max_examples=1000)
def test_many_random_configurations(configuration):
    check_configuration(configuration, 150)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("options", [{}, {"cooldown": 2, "patience": 1, "min_lr": [0.01, 0.02]}])
def test_plateau(mode, threshold_mode, options, tmp_path):
    options = {"patience": 3, "factor": 0.3, **options}
    theirs, ours = (
        module.ReduceLROnPlateau(one, mode, threshold_mode=threshold_mode, **options)
        for module, one in zip((THEIRS, OURS), optimizers(groups=2))
    )
    random = np.random.default_rng(3)
    for epoch in range(120):
        metric = random.normal() if epoch % 10 else float("nan")
        theirs.step(metric)
        ours.step(metric)
        same(theirs, ours)
        if epoch == 60:
            checkpoint.save(tmp_path / "ours.pt", ours.state_dict())
            theirs.load_state_dict(torch.load(tmp_path / "ours.pt", weights_only=True))
            ours.load_state_dict(theirs.state_dict())


@NESTED
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_arrays_as_rates(case):
    """torch computes with the Tensor, in its type, and fills it; ours stays an array."""
    theirs, ours = optimizers()
    theirs.param_groups[0]["lr"] = torch.tensor(0.1)
    ours.param_groups[0]["lr"] = jnp.asarray(0.1, jnp.float32)
    theirs, ours = case.make(THEIRS, theirs), case.make(OURS, ours)
    for _ in range(40):
        same(theirs, ours)
        theirs.optimizer.step()
        theirs.step()
        advance(ours)


def test_numpy_arrays_as_rates():
    _, optimizer = optimizers()
    given = np.asarray(0.5, np.float32)
    optimizer.param_groups[0]["lr"] = given
    scheduler = OURS.ExponentialLR(optimizer, 0.5)
    advance(scheduler)
    assert given == 0.5
    assert isinstance(optimizer.param_groups[0]["lr"], np.ndarray)
    assert scheduler.get_last_lr() == [np.float32(0.25)]


@pytest.mark.parametrize("name", ["Adam", "RMSprop", "Muon", "NAdam"])
def test_other_optimizers(name):
    parameter, array = torch.zeros(2, 2), jnp.zeros((2, 2))
    theirs = THEIRS.CosineAnnealingLR(getattr(torch.optim, name)([parameter], lr=0.1), 5)
    ours = OURS.CosineAnnealingLR(getattr(optim, name)([array], lr=0.1), 5)
    for _ in range(12):
        same(theirs, ours)
        advance(theirs)
        advance(ours)


def test_lbfgs():
    optimizer = optim.LBFGS({"w": jnp.ones(2)}, lr=0.5)
    scheduler = OURS.StepLR(optimizer, 1, 0.5)
    optimizer.train_step(lambda params: jnp.sum(params["w"] ** 2))
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_parameters_of_a_run_with_momentum_cycling():
    """The programs take what the scheduler writes: parameters equal in every bit, no new trace."""
    start = np.linspace(-1, 1, 7).astype(np.float32)
    tensor = torch.from_numpy(start.copy())
    theirs = THEIRS.OneCycleLR(torch.optim.SGD([tensor], lr=0.1, momentum=0.9), 0.1, 60)
    ours = OURS.OneCycleLR(optim.SGD([jnp.asarray(start)], lr=0.1, momentum=0.9), 0.1, 60)
    random = np.random.default_rng(1)
    for _ in range(60):
        grad = random.normal(size=7).astype(np.float32)
        tensor.grad = torch.from_numpy(grad)
        ours.optimizer.param_groups[0]["params"][0].grad = jnp.asarray(grad)
        advance(theirs)
        advance(ours)
    assert np.array_equal(np.asarray(ours.optimizer.params[0]), tensor.numpy())


# What torch warns of and refuses.


def outcome(call):
    """The text of an exception, or of the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            call()
        except Exception as error:
            return type(error), str(error)
    return [(one.category, str(one.message)) for one in caught]


def both(call, **options):
    theirs, ours = optimizers(**options)
    return outcome(lambda: call(THEIRS, theirs)), outcome(lambda: call(OURS, ours))


def step_first(module, optimizer):
    module.StepLR(optimizer, 1).step()


def step_in_order(module, optimizer):
    scheduler = module.StepLR(optimizer, 1)
    advance(scheduler)
    scheduler.step()  # torch asks at the first step alone


def second_scheduler(module, optimizer):
    advance(module.StepLR(optimizer, 1))
    module.ExponentialLR(optimizer, 0.9).step()


def step_before_the_first(module, optimizer):
    optimizer.step()
    module.StepLR(optimizer, 1).step()


def overridden(module, optimizer):
    scheduler = module.StepLR(optimizer, 1)
    optimizer.step = lambda: None
    optimizer.step()
    scheduler.step()


def no_order(module, optimizer):
    module.CosineAnnealingWarmRestarts(optimizer, 3).step()
    module.ReduceLROnPlateau(optimizer).step(1.0)


def epoch_given(module, optimizer):
    scheduler = module.CosineAnnealingLR(optimizer, 10)
    optimizer.step()
    scheduler.step(4)


def epoch_given_to_plateau(module, optimizer):
    module.ReduceLROnPlateau(optimizer).step(1.0, 4)


def rates_asked_for(module, optimizer):
    module.StepLR(optimizer, 1).get_lr()


def epoch_given_to_swa(module, optimizer):
    scheduler = kind_of(module, "SWALR")(optimizer, 0.5)
    optimizer.step()
    scheduler.step(4)


def rates_asked_of_swa(module, optimizer):
    kind_of(module, "SWALR")(optimizer, 0.5).get_lr()


def in_containers(module, optimizer):
    members = [module.LinearLR(optimizer), module.StepLR(optimizer, 1)]
    module.SequentialLR(optimizer, members, [2]).step()
    module.ChainedScheduler(members).step()


@pytest.mark.parametrize(
    "call",
    [
        step_first,
        step_in_order,
        second_scheduler,
        step_before_the_first,
        overridden,
        no_order,
        epoch_given,
        epoch_given_to_plateau,
        rates_asked_for,
        epoch_given_to_swa,
        rates_asked_of_swa,
        in_containers,
    ],
    ids=lambda call: call.__name__,
)
def test_warnings(call):
    theirs, ours = both(call)
    assert ours == theirs
    quiet = (step_in_order, no_order, second_scheduler)
    assert bool(theirs) == (call not in quiet)


def test_a_copied_scheduler_warns_as_torchs():
    outcomes = []
    for module, optimizer in zip((THEIRS, OURS), optimizers()):
        copied = copy.deepcopy(module.StepLR(optimizer, 1))
        copied.optimizer.step()
        outcomes.append(outcome(copied.step))
        assert copied.optimizer is not optimizer
    assert outcomes[0] == outcomes[1] != []


def test_pickle():
    _, optimizer = optimizers()
    scheduler = OURS.CosineAnnealingLR(optimizer, 10)
    advance(scheduler, 3)
    again = pickle.loads(pickle.dumps(scheduler))
    assert plain(again.state_dict()) == plain(scheduler.state_dict())
    advance(scheduler)
    advance(again)
    assert plain(groups_of(again.optimizer)) == plain(groups_of(optimizer))


REFUSED = {
    "no optimizer": lambda m, o: m.StepLR(3, 1),
    "no optimizer, plateau": lambda m, o: m.ReduceLROnPlateau(3),
    "no optimizer, cycle": lambda m, o: m.OneCycleLR(3, 0.1, 10),
    "no optimizer, lambda": lambda m, o: m.LambdaLR(3, decay),
    "resuming": lambda m, o: m.StepLR(o, 1, last_epoch=3),
    "base": lambda m, o: m.LRScheduler(o),
    "constant": lambda m, o: m.ConstantLR(o, 1.5),
    "linear start": lambda m, o: m.LinearLR(o, 0.0),
    "linear end": lambda m, o: m.LinearLR(o, 0.1, -1),
    "T_0": lambda m, o: m.CosineAnnealingWarmRestarts(o, 0),
    "T_0 float": lambda m, o: m.CosineAnnealingWarmRestarts(o, 2.5),
    "T_mult": lambda m, o: m.CosineAnnealingWarmRestarts(o, 2, 0),
    "eta_min": lambda m, o: m.CosineAnnealingWarmRestarts(o, 2, 1, "0"),
    "negative epoch": lambda m, o: m.CosineAnnealingWarmRestarts(o, 2).step(-1),
    "lambdas": lambda m, o: m.LambdaLR(o, [decay, decay, decay]),
    "no function": lambda m, o: m.MultiplicativeLR(o, 0.5),
    "length": lambda m, o: m.CyclicLR(o, [0.1], 0.2),
    "mode": lambda m, o: m.CyclicLR(o, 0.1, 0.2, mode="square"),
    "total_steps": lambda m, o: m.OneCycleLR(o, 0.1, 0),
    "epochs": lambda m, o: m.OneCycleLR(o, 0.1, epochs=-1, steps_per_epoch=3),
    "steps_per_epoch": lambda m, o: m.OneCycleLR(o, 0.1, epochs=1, steps_per_epoch=3.5),
    "no steps": lambda m, o: m.OneCycleLR(o, 0.1),
    "pct_start": lambda m, o: m.OneCycleLR(o, 0.1, 10, pct_start=1),
    "strategy": lambda m, o: m.OneCycleLR(o, 0.1, 10, anneal_strategy="sine"),
    "zero phase": lambda m, o: m.OneCycleLR(o, 0.1, 10, pct_start=0.1),
    "too many steps": lambda m, o: advance(m.OneCycleLR(o, 0.1, 10), 11),
    "no step size": lambda m, o: advance(m.StepLR(o, 0)),
    "no optimizer, swa": lambda m, o: kind_of(m, "SWALR")(3, 0.1),
    "swa_lr": lambda m, o: kind_of(m, "SWALR")(o, [0.1]),
    "swa strategy": lambda m, o: kind_of(m, "SWALR")(o, 0.1, -1, "sine"),
    "anneal_epochs": lambda m, o: kind_of(m, "SWALR")(o, 0.1, anneal_epochs=-1),
    "anneal_epochs float": lambda m, o: kind_of(m, "SWALR")(o, 0.1, anneal_epochs=5.0),
    "anneal_epochs array": lambda m, o: kind_of(m, "SWALR")(o, 0.1, anneal_epochs=np.asarray(5)),
    "resuming swa": lambda m, o: kind_of(m, "SWALR")(o, 0.1, last_epoch=3),
    "no schedulers": lambda m, o: m.SequentialLR(o, [], []),
    "nothing to chain": lambda m, o: m.ChainedScheduler([]),
    "milestones": lambda m, o: m.SequentialLR(o, [m.StepLR(o, 1)], [3]),
    "plateau in a sequence": lambda m, o: m.SequentialLR(o, [m.ReduceLROnPlateau(o)], []),
    "plateau in a chain": lambda m, o: m.ChainedScheduler([m.StepLR(o, 1), m.ReduceLROnPlateau(o)]),
    "no member": lambda m, o: m.SequentialLR(o, [3], []),
    "factor": lambda m, o: m.ReduceLROnPlateau(o, factor=1.0),
    "plateau mode": lambda m, o: m.ReduceLROnPlateau(o, "middle"),
    "threshold mode": lambda m, o: m.ReduceLROnPlateau(o, threshold_mode="x"),
    "min_lrs": lambda m, o: m.ReduceLROnPlateau(o, min_lr=[0.1]),
}


def decay(epoch):
    return 0.5**epoch


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    (kind, text), (our_kind, our_text) = both(REFUSED[name], groups=2)
    assert our_kind is kind
    if name not in ("base", "zero phase", "no step size"):  # theirs is empty, Python's own
        assert our_text == text


def test_momentum_is_refused_where_there_is_none():
    theirs, ours = both(lambda m, o: m.CyclicLR(o, 0.1, 0.2), name="Adagrad")
    assert ours == theirs


def test_a_member_of_another_optimizer():
    _, first = optimizers()
    _, second = optimizers()
    with pytest.raises(ValueError, match="belong to the same optimizer"):
        OURS.SequentialLR(first, [OURS.StepLR(second, 1)], [])


# Where torch leaves a trap.


def test_what_raises_changes_nothing():
    _, optimizer = optimizers()
    scheduler = OURS.OneCycleLR(optimizer, 0.1, 10)
    advance(scheduler, 10)
    before = plain(scheduler.state_dict()), plain(groups_of(optimizer))
    for _ in range(2):
        with pytest.raises(ValueError, match="Tried to step 11 times"):
            scheduler.step()
    assert (plain(scheduler.state_dict()), plain(groups_of(optimizer))) == before
    with pytest.raises(ValueError, match="base_momentum must have the same length"):
        OURS.CyclicLR(optimizer, 0.01, 0.3, base_momentum=[0.1, 0.2])
    with pytest.raises(ValueError, match="anneal_strategy"):
        optim.swa_utils.SWALR(optimizer, 0.01, anneal_strategy="sine")
    assert plain(groups_of(optimizer)) == before[1]


LATE = {
    "LambdaLR": (decay,),
    "MultiplicativeLR": (decay,),
    "CosineAnnealingWarmRestarts": (5,),
    "CyclicLR": (0.1, 0.2),
    "OneCycleLR": (0.1, 50),
    "SWALR": (0.1,),
}


@pytest.mark.parametrize("kind", LATE)
def test_late_groups_are_refused_before_anything_changes(kind):
    _, optimizer = optimizers()
    scheduler = kind_of(OURS, kind)(optimizer, *LATE[kind])
    optimizer.add_param_group({"params": [jnp.ones(1)]})
    before = plain(scheduler.state_dict()), plain(groups_of(optimizer))
    optimizer.step()
    with pytest.raises(ValueError, match="made for 1 parameter groups, but the optimizer has 2"):
        scheduler.step()
    assert (plain(scheduler.state_dict()), plain(groups_of(optimizer))) == before


@pytest.mark.parametrize(
    "configuration",
    [
        ("StepLR", 2),
        ("MultiStepLR", [2, 4]),
        ("ExponentialLR", 0.9),
        ("PolynomialLR", 9),
        ("ConstantLR",),
        ("LinearLR",),
        ("CosineAnnealingLR", 30),
        ("ReduceLROnPlateau", "min", 0.5, 0),
    ],
    ids=lambda configuration: configuration[0],
)
def test_late_groups_as_in_torch(configuration):
    theirs, ours = (
        made(module, optimizer, configuration)
        for module, optimizer in zip((THEIRS, OURS), optimizers())
    )
    theirs.optimizer.add_param_group({"params": [torch.ones(1)], "lr": 0.3})
    ours.optimizer.add_param_group({"params": [jnp.ones(1)], "lr": 0.3})
    metrics = (1.0,) if configuration[0] == "ReduceLROnPlateau" else ()
    for _ in range(9):
        theirs.optimizer.step()
        ours.optimizer.step()
        theirs.step(*metrics)
        ours.step(*metrics)
        same(theirs, ours)


def test_a_late_group_in_the_minimum_of_a_cosine():
    _, optimizer = optimizers()
    scheduler = OURS.CosineAnnealingLR(optimizer, 2)
    optimizer.add_param_group({"params": [jnp.ones(1)]})
    advance(scheduler, 2)
    with pytest.raises(ValueError, match="made for 1 parameter groups"):
        scheduler.step()
    assert scheduler.last_epoch == 2


def test_restarts_that_torchs_logarithm_misses():
    theirs, ours = (
        module.CosineAnnealingWarmRestarts(one, 2, 3)
        for module, one in zip((THEIRS, OURS), optimizers())
    )
    for epoch in (0, 1, 2, 7.25, 8, 25.5, 26, 79, 80):
        theirs.step(epoch)
        ours.step(epoch)
        same(theirs, ours)
    theirs.step(242)
    ours.step(242)
    assert theirs.get_last_lr() == [0.0]
    assert ours.get_last_lr() == [0.1]
    assert (ours.T_cur, ours.T_i) == (0.0, 486)


def test_changes_between_steps():
    theirs, ours = (
        module.StepLR(one, 2) for module, one in zip((THEIRS, OURS), optimizers(groups=2))
    )
    for scheduler in (theirs, ours):
        advance(scheduler, 2)
        scheduler.gamma = 0.5
        scheduler.optimizer.param_groups[1]["lr"] = 7.0
        scheduler.note = "mine"
        advance(scheduler, 3)
    same(theirs, ours)


def test_resuming_with_last_epoch():
    for configuration in (
        ("StepLR", 4),
        ("CosineAnnealingLR", 9),
        ("LinearLR",),
        ("OneCycleLR", 0.1, 30),
        ("SWALR", 0.05, 20),
    ):
        theirs, ours = (
            made(module, optimizer, configuration)
            for module, optimizer in zip((THEIRS, OURS), optimizers())
        )
        advance(theirs, 7)
        advance(ours, 7)
        kind, *arguments = configuration
        theirs = kind_of(THEIRS, kind)(theirs.optimizer, *arguments, last_epoch=6)
        ours = kind_of(OURS, kind)(ours.optimizer, *arguments, last_epoch=6)
        same(theirs, ours)
        advance(theirs, 5)
        advance(ours, 5)
        same(theirs, ours)


def test_nested_containers_cannot_begin_at_a_milestone():
    _, optimizer = optimizers()
    inner = OURS.ChainedScheduler([OURS.ExponentialLR(optimizer, 0.9)])
    scheduler = OURS.SequentialLR(optimizer, [OURS.LinearLR(optimizer), inner], [2])
    advance(scheduler)
    optimizer.step()
    with pytest.raises(NotImplementedError, match="give the outer one the members"):
        scheduler.step()
    assert scheduler.last_epoch == 1


def test_a_dict_with_other_members_is_refused():
    _, optimizer = optimizers()
    one = OURS.ChainedScheduler([OURS.StepLR(optimizer, 1)])
    two = OURS.ChainedScheduler([OURS.StepLR(optimizer, 1), OURS.StepLR(optimizer, 1)])
    with pytest.raises(ValueError, match="has 1 schedulers, but the dict 2"):
        one.load_state_dict(two.state_dict())


def test_state_dicts_share_nothing():
    _, optimizer = optimizers()
    scheduler = OURS.OneCycleLR(optimizer, 0.1, 30)
    saved = scheduler.state_dict()
    saved["_last_lr"][0] = 5.0
    assert scheduler.get_last_lr() != [5.0]
    scheduler.load_state_dict(saved)
    saved["_last_lr"][0] = 6.0
    assert scheduler.get_last_lr() == [5.0]
