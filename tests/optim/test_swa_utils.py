"""AveragedModel against torch's, its state dicts and files both ways."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.optim import swa_utils as theirs

import torchwise
from distance import same_bits
from torch_oracle import to_numpy, to_torch
from torchwise import checkpoint, optim
from torchwise.optim import swa_utils as ours

FUNCTIONS = {
    "default": lambda utils: {},
    "swa": lambda utils: {"avg_fn": utils.get_swa_avg_fn()},
    "swa multi": lambda utils: {"multi_avg_fn": utils.get_swa_multi_avg_fn()},
    "ema": lambda utils: {"avg_fn": utils.get_ema_avg_fn(0.99)},
    "ema multi": lambda utils: {"multi_avg_fn": utils.get_ema_multi_avg_fn(0.99)},
    "own": lambda utils: {"avg_fn": lambda average, value, n: value},
    "own multi": lambda utils: {"multi_avg_fn": utils.get_ema_multi_avg_fn()},
}


class Model(torch.nn.Module):
    def __init__(self, rng, dtype):
        super().__init__()
        self.weight = torch.nn.Parameter(to_torch(rng.normal(size=(32, 2)).astype(dtype)))
        self.bias = torch.nn.Parameter(to_torch(rng.normal(size=64).astype("float32")))
        self.register_buffer("count", torch.tensor(int(rng.integers(100))))

    @property
    def tree(self):
        return {name: jnp.asarray(to_numpy(value)) for name, value in self.state_dict().items()}


def same(averaged, torchs):
    state_dict, other = averaged.state_dict(), torchs.state_dict()
    assert set(state_dict) == set(other)
    assert next(iter(state_dict)) == "n_averaged"
    for name, value in other.items():
        assert same_bits(state_dict[name], to_numpy(value)), name


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_averages_are_torchs(name, dtype):
    rng = np.random.default_rng(0)
    first = Model(rng, dtype)
    averaged = ours.AveragedModel(first.tree, **FUNCTIONS[name](ours))
    torchs = theirs.AveragedModel(first, **FUNCTIONS[name](theirs))
    same(averaged, torchs)
    for _ in range(6):
        model = Model(rng, dtype)
        averaged.update_parameters(model.tree)
        torchs.update_parameters(model)
        same(averaged, torchs)
    assert averaged.n_averaged == torchs.n_averaged == 6


@pytest.mark.parametrize("name", ["default", "ema"])
def test_buffers_are_averaged_where_they_are_to_be(name):
    rng = np.random.default_rng(1)
    first = Model(rng, "float32")
    averaged = ours.AveragedModel(first.tree, **FUNCTIONS[name](ours), use_buffers=True)
    torchs = theirs.AveragedModel(first, **FUNCTIONS[name](theirs), use_buffers=True)
    for _ in range(6):
        model = Model(rng, "float32")
        averaged.update_parameters(model.tree)
        torchs.update_parameters(model)
        same(averaged, torchs)


@pytest.mark.parametrize("suffix", [None, "pt"])
def test_from_torch_and_back_in_mid_run(suffix, tmp_path):
    rng = np.random.default_rng(2)
    first = Model(rng, "float32")
    torchs = theirs.AveragedModel(first, multi_avg_fn=theirs.get_ema_multi_avg_fn(0.9))
    averaged = ours.AveragedModel(first.tree, multi_avg_fn=ours.get_ema_multi_avg_fn(0.9))
    for _ in range(3):
        torchs.update_parameters(Model(rng, "float32"))
    if suffix:
        torch.save(torchs.state_dict(), tmp_path / "theirs.pt")
        averaged.load_state_dict(checkpoint.load(tmp_path / "theirs.pt"))
    else:
        averaged.load_state_dict(torchs.state_dict())
    same(averaged, torchs)
    for _ in range(3):
        model = Model(rng, "float32")
        averaged.update_parameters(model.tree)
        torchs.update_parameters(model)
    same(averaged, torchs)
    other = theirs.AveragedModel(first, multi_avg_fn=theirs.get_ema_multi_avg_fn(0.9))
    if suffix:
        checkpoint.save(tmp_path / "ours.pt", averaged.state_dict())
        other.load_state_dict(torch.load(tmp_path / "ours.pt", weights_only=True))
    else:
        tensors = {name: to_torch(np.asarray(x)) for name, x in averaged.state_dict().items()}
        other.load_state_dict(tensors)
    model = Model(rng, "float32")
    averaged.update_parameters(model.tree)
    other.update_parameters(model)
    same(averaged, other)


def test_names_and_axes_by_a_layout():
    layout = torchwise.Layout({"kernel": "weight"}, {"kernel": (1, 0)})
    averaged = ours.AveragedModel({"kernel": jnp.arange(6.0).reshape(3, 2)})
    saved = averaged.state_dict(layout=layout)
    assert saved["module.weight"].shape == (2, 3)
    other = ours.AveragedModel({"kernel": jnp.zeros((3, 2))})
    other.load_state_dict(saved, layout=layout)
    assert same_bits(other.module["kernel"], averaged.module["kernel"])


def test_a_dict_that_does_not_fit_changes_nothing():
    averaged = ours.AveragedModel({"w": jnp.zeros(2), "b": jnp.zeros(1)})
    bad = {"n_averaged": np.int64(3), "module.w": np.ones(3), "module.c": np.ones(1)}
    with pytest.raises(ValueError, match=r"module\.w.*has shape \(3,\)") as error:
        averaged.load_state_dict(bad)
    assert "module.b" in str(error.value)
    assert "module.c" in str(error.value)
    with pytest.raises(ValueError, match="n_averaged"):
        averaged.load_state_dict({"module.w": np.ones(2), "module.b": np.ones(1)})
    assert averaged.n_averaged == 0
    assert averaged.module["w"].tolist() == [0, 0]


def test_a_model_that_does_not_fit_changes_nothing():
    averaged = ours.AveragedModel({"w": jnp.zeros(2)})
    with pytest.raises(ValueError, match="another model"):
        averaged.update_parameters({"v": jnp.zeros(2)})
    with pytest.raises(ValueError, match=r"\['w'\]: the average has shape \(2,\)"):
        averaged.update_parameters({"w": jnp.zeros(3)})
    assert averaged.n_averaged == 0


def test_a_function_that_fails_changes_nothing():
    def function(average, value, n):
        raise ZeroDivisionError

    averaged = ours.AveragedModel({"w": jnp.zeros(2)}, avg_fn=function)
    averaged.update_parameters({"w": jnp.ones(2)})
    with pytest.raises(ZeroDivisionError):
        averaged.update_parameters({"w": jnp.zeros(2)})
    assert averaged.n_averaged == 1
    assert averaged.module["w"].tolist() == [1, 1]


def test_what_was_handed_out_keeps_its_values_and_what_was_given_is_copied():
    given = {"w": jnp.ones(2)}
    averaged = ours.AveragedModel(given)
    handed = []
    for value in range(5):
        averaged.update_parameters({"w": jnp.full(2, float(value))})
        handed.append(averaged.module["w"])
    assert [one[0] for one in handed] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert given["w"].tolist() == [1, 1]


def test_memory_is_written_in_place():
    averaged = ours.AveragedModel({"w": jnp.ones(1000)})
    value = {"w": jnp.ones(1000)}
    for _ in range(3):
        averaged.update_parameters(value)
    [leaf] = averaged._leaves
    before = leaf.own_array.unsafe_buffer_pointer()
    averaged.update_parameters(value)
    assert leaf.own_array.unsafe_buffer_pointer() == before


def test_copies_go_on_by_themselves():
    averaged = ours.AveragedModel({"w": jnp.ones(2)})
    averaged.update_parameters({"w": jnp.ones(2)})
    for twin in (copy.deepcopy(averaged), pickle.loads(pickle.dumps(averaged))):
        twin.update_parameters({"w": jnp.full(2, 3.0)})
        assert twin.module["w"].tolist() == [2, 2]
    assert averaged.module["w"].tolist() == [1, 1]


def test_on_a_device_and_called():
    device = jax.devices()[0]
    averaged = ours.AveragedModel(jax.tree_util.Partial(lambda w, x: w * x, jnp.ones(2)), device)
    averaged.update_parameters(jax.tree_util.Partial(averaged.module.func, jnp.full(2, 3.0)))
    assert averaged(2.0).tolist() == [6, 6]
    assert averaged.module.args[0].devices() == {device}


def test_only_one_function():
    with pytest.raises(AssertionError) as error:
        theirs.AveragedModel(torch.nn.Linear(1, 1), avg_fn=print, multi_avg_fn=print)
    with pytest.raises(AssertionError) as other:
        ours.AveragedModel({}, avg_fn=print, multi_avg_fn=print)
    assert str(error.value) == str(other.value)
    for make in ("get_ema_avg_fn", "get_ema_multi_avg_fn"):
        with pytest.raises(ValueError, match="Invalid decay") as error:
            getattr(theirs, make)(1.5)
        with pytest.raises(ValueError, match="Invalid decay") as other:
            getattr(ours, make)(1.5)
        assert str(error.value) == str(other.value)


def test_of_an_optimizers_parameters():
    optimizer = optim.SGD({"w": jnp.ones(2)}, lr=0.5)
    averaged = ours.AveragedModel(optimizer.params)
    for _ in range(3):
        optimizer.train_step(lambda params: jnp.sum(params["w"] ** 2))
        averaged.update_parameters(optimizer.params)
    assert averaged.module["w"].tolist() == [0, 0]
