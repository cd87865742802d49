"""From torch's dict to a chain and back: nothing is lost, added or moved."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from state_dict_tools import assert_same_dict, step_torch, tensors_of

import torchwise
from cases import CASES, SHAPES
from functional_run import draw
from torch_oracle import to_numpy

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


def there_and_back(state_dict, params, **options):
    transform, state = torchwise.from_state_dict(state_dict, params, **options)
    structure = jax.tree.structure(jax.eval_shape(transform.init, params))
    assert jax.tree.structure(state) == structure
    return torchwise.to_state_dict(transform, state, params, layout=options.get("layout", PLAIN))


PLAIN = torchwise.Layout()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_case_gives_torchs_dict_back(case):
    tensors = tensors_of(draw(np.random.default_rng(6), SHAPES, "float32"))
    optimizer = case.optimizer.theirs(tensors, **case.hyperparameters)
    for live in ([], [0, 2, 7], None):  # before any gradient, before some, after all
        theirs = trained(optimizer, tensors, live=live)
        assert_same_dict(there_and_back(theirs, values(tensors)), theirs)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_chain_is_written_as_torch_writes_it(case):
    arrays = dict(zip(NAMES, draw(np.random.default_rng(6), SHAPES[:3], "float32")))
    tensors = dict(zip(arrays, tensors_of(arrays.values())))
    transform = case.optimizer.ours(**case.hyperparameters)
    params = {name: jnp.asarray(array) for name, array in arrays.items()}
    written = torchwise.to_state_dict(transform, transform.init(params), params)
    theirs = case.optimizer.theirs(list(tensors.items()), **case.hyperparameters).state_dict()
    assert_same_dict(written, theirs)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "complex64"])
def test_types_are_kept(dtype):
    with jax.enable_x64(dtype == "float64"):
        tensors = tensors_of(draw(np.random.default_rng(7), [(3, 4), ()], dtype))
        theirs = trained(torch.optim.SGD(tensors, **SGD), tensors, dtype)
        assert_same_dict(there_and_back(theirs, values(tensors)), theirs)


def test_state_of_another_type_gets_the_parameters_as_in_torch():
    tensors = tensors_of(draw(np.random.default_rng(7), [(3, 4)], "float32"))
    saved = trained(torch.optim.Adagrad(tensors), tensors)
    halves = [tensor.detach().to(torch.bfloat16).requires_grad_() for tensor in tensors]
    theirs = torch.optim.Adagrad(halves)
    theirs.load_state_dict(saved)
    assert_same_dict(there_and_back(saved, values(halves)), theirs.state_dict())


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("face", [torch.optim.SGD, torch.optim.Adagrad])
def test_several_groups(face, named):
    tensors = tensors_of(draw(np.random.default_rng(8), SHAPES, "float32"))
    elements = list(zip(NAMES, tensors)) if named else tensors
    groups = [
        {"params": elements[3:6], "lr": 0.5, "weight_decay": 0.1},
        {"params": elements[6:], "lr_mult": 2.0},
        {"params": elements[:3]},
    ]
    optimizer = face(groups, lr=0.01)
    theirs = trained(optimizer, tensors)
    arrays = values(tensors)
    params = dict(zip(NAMES, arrays)) if named else arrays[3:6] + arrays[6:] + arrays[:3]
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


def test_a_learning_rate_that_is_a_tensor_stays_one_until_it_changes():
    tensors = tensors_of([np.ones(2, np.float32)])
    theirs = torch.optim.SGD(tensors, lr=torch.tensor(0.1)).state_dict()
    assert_same_dict(there_and_back(theirs, values(tensors)), theirs)
    transform, state = torchwise.from_state_dict(theirs, values(tensors))
    halved = jax.tree.map(lambda number: number / 2, transform)
    (group,) = torchwise.to_state_dict(halved, state, values(tensors))["param_groups"]
    assert group["lr"] == np.float32(0.1) / 2
    assert type(group["lr"]) is float


def test_entries_stay_in_the_order_of_the_first_gradients():
    tensors = tensors_of(draw(np.random.default_rng(10), SHAPES, "float32"))
    optimizer = torch.optim.SGD(tensors, dampening=0.5, **SGD)
    trained(optimizer, tensors, live=[4], steps=1)
    theirs = trained(optimizer, tensors, live=[1, 4], steps=1)
    assert list(theirs["state"]) == [4, 1]
    assert_same_dict(there_and_back(theirs, values(tensors)), theirs)


def test_named_parameters_are_found_by_name_in_any_order():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    tensors = list(model.parameters())
    theirs = trained(torch.optim.SGD(model.named_parameters(), **SGD), tensors)
    tree = {
        key: {part: jnp.asarray(to_numpy(getattr(model[int(key)], part))) for part in parts}
        for key, parts in {"1": ("bias", "weight"), "0": ("weight", "bias")}.items()
    }
    transform, state = torchwise.from_state_dict(theirs, tree)
    buffers = state.states[0].momentum_buffer
    assert_same_dict(buffers["1"]["bias"], theirs["state"][3]["momentum_buffer"])
    assert_same_dict(torchwise.to_state_dict(transform, state, tree), theirs)


def test_names_may_be_given_beside_the_dict_and_order_the_ids():
    model = torch.nn.Linear(3, 3)
    tensors = list(model.parameters())
    theirs = trained(torch.optim.Adagrad(tensors), tensors)
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


def test_what_old_versions_lack_is_what_torch_fills_in():
    tensors = tensors_of([np.ones(2, np.float32)])
    saved = torch.optim.SGD(tensors, **SGD).state_dict()
    for key in ("nesterov", "maximize", "foreach", "differentiable", "fused"):
        del saved["param_groups"][0][key]
    theirs = torch.optim.SGD(tensors)
    theirs.load_state_dict(saved)
    ours = there_and_back(saved, values(tensors))["param_groups"][0]
    expected = theirs.state_dict()["param_groups"][0]
    assert ours == expected


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


def test_loaded_arrays_are_not_torchs_memory():
    tensors = tensors_of([np.ones(2, np.float32)])
    optimizer = torch.optim.Adagrad(tensors)
    _, state = torchwise.from_state_dict(trained(optimizer, tensors), values(tensors))
    before = np.asarray(state.states[0].sum[0]).copy()
    trained(optimizer, tensors)
    np.testing.assert_array_equal(state.states[0].sum[0], before)


def numbers():
    return st.floats(0, 10, allow_nan=False)


@st.composite
def sgd_dicts(draw):
    count = draw(st.integers(1, 4))
    shapes = draw(st.lists(st.sampled_from([(), (2,), (2, 3)]), min_size=count, max_size=count))
    cut = draw(st.integers(0, count - 1))
    members = [list(range(cut)), list(range(cut, count))] if cut else [list(range(count))]
    groups = [
        {
            "lr": draw(numbers()),
            "momentum": draw(st.floats(0.1, 1)),
            "dampening": draw(numbers()),
            "weight_decay": draw(numbers()),
            "nesterov": False,
            "maximize": draw(st.booleans()),
            "foreach": draw(st.sampled_from([None, True])),
            "differentiable": False,
            "fused": None,
            **draw(st.dictionaries(st.sampled_from(["initial_lr", "lr_mult"]), numbers())),
            "params": ids,
        }
        for ids in members
    ]
    started = draw(st.permutations(range(count)))[: draw(st.integers(0, count))]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    state = {
        identity: {"momentum_buffer": np.asarray(rng.normal(size=shapes[identity]), np.float32)}
        for identity in started
    }
    return {"state": state, "param_groups": groups}, shapes


@given(sgd_dicts())
def test_the_round_trip_is_the_identity(drawn):
    state_dict, shapes = drawn
    params = [jnp.zeros(shape) for shape in shapes]
    back = there_and_back(state_dict, params)
    assert back["param_groups"] == state_dict["param_groups"]
    assert [list(group) for group in back["param_groups"]] == [
        list(group) for group in state_dict["param_groups"]
    ]
    assert list(back["state"]) == list(state_dict["state"])
    for identity, entry in state_dict["state"].items():
        mine = np.asarray(back["state"][identity]["momentum_buffer"])
        assert mine.tobytes() == entry["momentum_buffer"].tobytes()
