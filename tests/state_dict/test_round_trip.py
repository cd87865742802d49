"""From torch's dict to a chain and back: nothing is lost, added or moved."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from state_dict_tools import assert_same_dict, step_torch, tensors_of

import torchwise
from cases import CASES, FULL, OPTIMIZERS, SHAPES
from functional_run import draw
from rounds import FIRST, each
from torch_oracle import to_numpy
from torchwise import optim

NAMES = [f"layers.{index}.weight" for index in range(len(SHAPES))]
SGD = {"lr": 0.1, "momentum": 0.9}


def trained(optimizer, tensors, dtype="float32", live=None, steps=3):
    """Let torch take steps; only the tensors in `live` have gradients."""
    rng = np.random.default_rng(5)
    for _ in range(steps):
        grads = draw(rng, [tuple(tensor.shape) for tensor in tensors], dtype)
        step_torch(
            optimizer,
            tensors,
            [grad if live is None or i in live else None for i, grad in enumerate(grads)],
        )
    return optimizer.state_dict()


def values(tensors):
    return [jnp.asarray(to_numpy(tensor)) for tensor in tensors]


def torch_run(case, arrays):
    """Torch's optimizer of a case, and its parameters."""
    tensors = tensors_of(arrays)
    return case.optimizer.theirs(tensors, **case.hyperparameters), tensors


def there_and_back(state_dict, params, **options):
    transform, state = torchwise.from_state_dict(state_dict, params, **options)
    structure = jax.tree.structure(jax.eval_shape(transform.init, params))
    assert jax.tree.structure(state) == structure
    return torchwise.to_state_dict(transform, state, params, layout=options.get("layout", PLAIN))


PLAIN = torchwise.Layout()


@pytest.mark.parametrize("case", each(CASES))
def test_every_case_gives_torchs_dict_back(case):
    optimizer, tensors = torch_run(case, draw(np.random.default_rng(6), SHAPES, "float32"))
    for live in ([], [0, 2, 4], None):  # before any gradient, before some, after all
        theirs = trained(optimizer, tensors, live=live)
        assert_same_dict(there_and_back(theirs, values(tensors)), theirs)


@pytest.mark.parametrize("case", each(CASES))
def test_a_chain_is_written_as_torch_writes_it(case):
    arrays = dict(zip(NAMES, draw(np.random.default_rng(6), SHAPES[:3], "float32")))
    tensors = dict(zip(arrays, tensors_of(arrays.values())))
    transform = case.optimizer.ours(**case.hyperparameters)
    params = {name: jnp.asarray(array) for name, array in arrays.items()}
    written = torchwise.to_state_dict(transform, transform.init(params), params)
    theirs = case.optimizer.theirs(list(tensors.items()), **case.hyperparameters).state_dict()
    assert_same_dict(written, theirs)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "complex64"])
@pytest.mark.parametrize("case", each(FULL, usual=FIRST))
def test_types_are_kept(case, dtype):
    with jax.enable_x64(dtype == "float64"):
        try:
            optimizer, tensors = torch_run(case, draw(np.random.default_rng(7), [(3, 4)], dtype))
            theirs = trained(optimizer, tensors, dtype)
        except RuntimeError as error:
            pytest.skip(f"torch has no such step: {error}")
        assert_same_dict(there_and_back(theirs, values(tensors)), theirs)


@pytest.mark.parametrize("case", each(FULL, usual=FIRST))
def test_state_of_another_type_gets_the_parameters_as_in_torch(case):
    """But for the numbers of a parameter, which stay float32 as in a run that was not saved."""
    optimizer, tensors = torch_run(case, draw(np.random.default_rng(7), [(3, 4)], "float32"))
    saved = trained(optimizer, tensors)
    halves = [tensor.detach().to(torch.bfloat16).requires_grad_() for tensor in tensors]
    theirs = case.optimizer.theirs(halves)
    theirs.load_state_dict(saved)
    expected = theirs.state_dict()
    for entry, held in zip(expected["state"].values(), saved["state"].values(), strict=True):
        entry |= {key: value for key, value in held.items() if value.ndim == 0}
    assert_same_dict(there_and_back(saved, values(halves)), expected)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("case", each(FULL, usual=FIRST))
def test_several_groups(case, named):
    tensors = tensors_of(draw(np.random.default_rng(8), SHAPES, "float32"))
    elements = list(zip(NAMES, tensors)) if named else tensors
    other = [one.hyperparameters for one in FULL if one.optimizer is case.optimizer][-1]
    groups = [
        {"params": elements[1:3], **other, "lr": 0.5},
        {"params": elements[3:], "lr_mult": 2.0},
        {"params": elements[:1]},
    ]
    optimizer = case.optimizer.theirs(groups, **case.hyperparameters)
    theirs = trained(optimizer, tensors)
    arrays = values(tensors)
    params = dict(zip(NAMES, arrays)) if named else arrays[1:3] + arrays[3:] + arrays[:1]
    assert_same_dict(there_and_back(theirs, params), theirs)


def test_each_leaf_is_updated_by_its_group():
    tensors = tensors_of([np.ones(2, np.float32)] * 2)
    optimizer = torch.optim.SGD(
        [{"params": [tensors[1]], "lr": 0.5}, {"params": [tensors[0]]}], 0.1
    )
    params = {"b": jnp.ones(2), "a": jnp.ones(2)}
    transform, state = torchwise.from_state_dict(optimizer.state_dict(), params, names=["b", "a"])
    step = jax.jit(lambda transform: transform.update(params, state, params)[0])
    np.testing.assert_array_equal(step(transform)["b"], np.full(2, -0.5, np.float32))
    np.testing.assert_array_equal(step(transform)["a"], np.full(2, -0.1, np.float32))
    doubled = jax.tree.map(lambda number: 2 * number, transform)
    np.testing.assert_array_equal(step(doubled)["a"], np.full(2, -0.2, np.float32))
    missing = transform.update({"b": None, "a": params["a"]}, state, params)[0]
    np.testing.assert_array_equal(missing["b"], np.zeros(2, np.float32))


def test_extra_keys_of_schedulers_and_users_stay_in_their_places():
    tensors = tensors_of(draw(np.random.default_rng(9), SHAPES, "float32"))
    optimizer = torch.optim.SGD([{"name": "all", "params": tensors}], lr=0.1, momentum=0.5)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.3, total_steps=9)
    trained(optimizer, tensors)
    scheduler.step()
    theirs = optimizer.state_dict()
    assert {"name", "initial_lr", "max_momentum"} < theirs["param_groups"][0].keys()
    assert_same_dict(there_and_back(theirs, values(tensors)), theirs)


@pytest.mark.parametrize("case", each(FULL, usual=FIRST))
def test_a_learning_rate_that_is_a_tensor_stays_one_until_it_changes(case):
    tensors = tensors_of([np.ones(2, np.float32)])
    hyperparameters = {**case.hyperparameters, "lr": torch.tensor(0.1)}
    theirs = case.optimizer.theirs(tensors, **hyperparameters).state_dict()
    assert_same_dict(there_and_back(theirs, values(tensors)), theirs)
    transform, state = torchwise.from_state_dict(theirs, values(tensors))
    halved = jax.tree.map(lambda number: number / 2, transform)
    (group,) = torchwise.to_state_dict(halved, state, values(tensors))["param_groups"]
    assert group["lr"] == np.float32(0.1) / 2
    assert type(group["lr"]) is float


@pytest.mark.parametrize("case", each(FULL, usual=FIRST))
def test_states_stay_in_the_order_of_the_first_gradients(case):
    optimizer, tensors = torch_run(case, draw(np.random.default_rng(10), SHAPES, "float32"))
    trained(optimizer, tensors, live=[3], steps=1)
    theirs = trained(optimizer, tensors, live=[1, 3], steps=1)
    from_the_start = case.transform.rule.starts_with_state
    assert list(theirs["state"]) == ([0, 1, 2, 3] if from_the_start else [3, 1])
    assert_same_dict(there_and_back(theirs, values(tensors)), theirs)


@pytest.mark.parametrize("case", each(FULL, usual=FIRST))
def test_named_parameters_are_found_by_name_in_any_order(case):
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    optimizer = case.optimizer.theirs(model.named_parameters(), **case.hyperparameters)
    theirs = trained(optimizer, list(model.parameters()))
    tree = {
        key: {part: jnp.asarray(to_numpy(getattr(model[int(key)], part))) for part in parts}
        for key, parts in {"1": ("bias", "weight"), "0": ("weight", "bias")}.items()
    }
    transform, state = torchwise.from_state_dict(theirs, tree)
    found = {key: tree for held in state.states for key, tree in held._asdict().items()}
    of_last_bias = {key: value for key, value in theirs["state"][3].items() if key != "step"}
    assert of_last_bias.keys() <= {*case.optimizer.state_keys}
    for key, value in of_last_bias.items():
        assert_same_dict(found[key]["1"]["bias"], value)
    assert_same_dict(torchwise.to_state_dict(transform, state, tree), theirs)


@pytest.mark.parametrize("case", each(FULL, usual=FIRST))
def test_names_may_be_given_next_to_the_dict_and_order_the_ids(case):
    model = torch.nn.Linear(3, 3)
    tensors = list(model.parameters())
    theirs = trained(case.optimizer.theirs(tensors, **case.hyperparameters), tensors)
    tree = {"bias": jnp.zeros(3), "weight": jnp.zeros((3, 3))}
    names = [name for name, _ in model.named_parameters()]
    transform, state = torchwise.from_state_dict(theirs, tree, names=names)
    assert_same_dict(torchwise.to_state_dict(transform, state, tree), theirs)
    written = torchwise.to_state_dict(transform.chains[0], state, tree, names=names)
    assert written["param_groups"][0]["param_names"] == names
    assert_same_dict(written["state"], theirs["state"])
    assert_same_dict(there_and_back(written, tree), written)


@pytest.mark.parametrize("dampening", [0, 0.5])
def test_a_buffer_of_none_and_no_entry_are_no_gradient_yet(dampening):
    tensors = tensors_of([np.ones(2, np.float32)] * 2)
    saved = torch.optim.SGD(tensors, dampening=dampening, **SGD).state_dict()
    saved["state"] = {0: {"momentum_buffer": None}}
    transform, state = torchwise.from_state_dict(saved, values(tensors))
    for mine, initial in zip(
        jax.tree.leaves(state), jax.tree.leaves(transform.init(values(tensors)))
    ):
        assert np.asarray(mine).tobytes() == np.asarray(initial).tobytes()
    assert torchwise.to_state_dict(transform, state, values(tensors))["state"] == {}


@pytest.mark.parametrize("case", each(FULL, usual=FIRST))
def test_what_old_versions_lack_is_what_torch_fills_in(case):
    """Keys of groups that came later, and step counts that were numbers."""
    later, tensors = case.transform.rule.added_later, tensors_of([np.ones(2, np.float32)])
    old = {key: value for key, value in case.hyperparameters.items() if key not in later}
    saved = copy.deepcopy(trained(case.optimizer.theirs(tensors, **old), tensors))
    assert later.keys() < saved["param_groups"][0].keys()
    for key in later:
        del saved["param_groups"][0][key]
    for entry in saved["state"].values():
        entry.update({key: int(value) for key, value in entry.items() if key == "step"})
    theirs = case.optimizer.theirs(tensors)
    theirs.load_state_dict(copy.deepcopy(saved))
    expected = theirs.state_dict()
    ours = there_and_back(saved, values(tensors), optimizer=case.optimizer.stateful)
    assert ours["param_groups"] == expected["param_groups"]
    assert_same_dict(ours["state"], expected["state"])
    stateful = getattr(optim, case.optimizer.stateful)(values(tensors))
    stateful.load_state_dict(saved)
    assert stateful.state_dict()["param_groups"] == expected["param_groups"]
    assert_same_dict(stateful.state_dict()["state"], expected["state"])


def test_a_schedule_is_written_as_the_rate_of_the_next_gradient():
    transform = torchwise.chain(
        torchwise.sgd(optax.linear_schedule(0.5, 0.1, 4), momentum=0.9), per_parameter_steps=True
    )
    params = [jnp.ones(2), jnp.ones(3)]
    state = transform.init(params)
    for grads in ([params[0], None], params):
        _, state = transform.update(grads, state, params)
    written = torchwise.to_state_dict(transform, state, params)
    assert written["param_groups"][0]["lr"] == pytest.approx(0.3)
    assert list(written["state"]) == [0, 1]


def test_hyperparameters_that_are_arrays_become_numbers():
    transform = torchwise.sgd(jnp.float32(0.5), momentum=jnp.float32(0.0))
    params = [jnp.ones(2)]
    written = torchwise.to_state_dict(transform, transform.init(params), params)
    group = written["param_groups"][0]
    assert (group["lr"], group["momentum"], type(group["lr"])) == (0.5, 0.0, float)


@pytest.mark.parametrize("case", each(FULL, usual=FIRST))
def test_loaded_arrays_are_not_torchs_memory(case):
    optimizer, tensors = torch_run(case, [np.ones(2, np.float32)])
    _, state = torchwise.from_state_dict(trained(optimizer, tensors), values(tensors))
    before = jax.tree.map(np.array, state)
    trained(optimizer, tensors)
    jax.tree.map(np.testing.assert_array_equal, state, before)


@st.composite
def torch_runs(draw, row):
    """An optimizer of torch with random groups, after steps in which some have no gradients."""
    shapes = draw(st.lists(st.sampled_from([(), (2,), (2, 3)]), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    tensors = tensors_of([np.asarray(rng.normal(size=shape), np.float32) for shape in shapes])
    cut = draw(st.integers(0, len(shapes) - 1))
    extra = st.dictionaries(st.sampled_from(["initial_lr", "lr_mult"]), st.floats(0, 10))
    groups = [
        {"params": members, **draw(row.random), **draw(extra)}
        for members in (tensors[:cut], tensors[cut:])
        if members
    ]
    optimizer = row.theirs(groups)
    for live in draw(st.lists(st.sets(st.sampled_from(range(len(shapes)))), max_size=3)):
        trained(optimizer, tensors, live=live, steps=1)
    return optimizer, tensors


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=name, marks=pytest.mark.slow if index else ())
        for index, (name, row) in enumerate(OPTIMIZERS.items())
    ],
)
def test_the_round_trip_is_the_identity(row):
    @settings(max_examples=40)
    @given(torch_runs(row))
    def check(drawn):
        optimizer, tensors = drawn
        theirs = optimizer.state_dict()
        assert_same_dict(there_and_back(theirs, values(tensors)), theirs)

    check()
