"""Averages of parameters, against torch's AveragedModel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.optim import swa_utils

from distance import same_bits
from torch_oracle import to_numpy, to_torch
from torchwise import averages

DTYPES = ["float32", "float64", "bfloat16", "float16", "complex64"]
BLOCKS = [(1024,), (32, 2), (16, 4, 3, 3), (64, 3)]  # of 32: torch's half types differ in tails
SHAPES = [*BLOCKS, (1003,), (33, 7), (), (0,)]


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


def drawn(rng, dtype):
    shapes = BLOCKS if "float16" in dtype else SHAPES
    arrays = [np.asarray(rng.normal(size=shape)) for shape in shapes]
    if dtype.startswith("complex"):
        arrays = [array + 1j * rng.normal(size=array.shape) for array in arrays]
    return [array.astype(dtype) for array in arrays]


def real(arrays):
    """Pairs of real numbers in the place of complex ones."""
    return [
        np.stack([array.real, array.imag], axis=-1) if array.dtype.kind == "c" else array
        for array in arrays
    ]


def module(arrays):
    return torch.nn.ParameterList([torch.nn.Parameter(to_torch(array)) for array in arrays])


def check(average, theirs, dtype, updates=30):
    rng = np.random.default_rng(0)
    start = drawn(rng, dtype)
    averaged = swa_utils.AveragedModel(module(real(start)), **theirs)
    state = average.init(list(map(jnp.asarray, start)))
    update = jax.jit(average.update)
    for count in range(updates):
        values = drawn(rng, dtype)
        state = update(state, list(map(jnp.asarray, values)))
        averaged.update_parameters(module(real(values)))
        for ours, other in zip(real(map(np.asarray, state.params)), averaged.module):
            assert same_bits(ours, to_numpy(other)), count
    assert int(state.n_averaged) == int(averaged.n_averaged) == updates


@pytest.mark.parametrize("dtype", DTYPES[:4])
def test_the_mean_is_torchs(dtype):
    check(averages.swa(), {}, dtype)


@pytest.mark.parametrize("dtype", DTYPES[:4])
@pytest.mark.parametrize("decay", [0.999, 0.5, 0.25, 0.0, 1.0])
def test_the_exponential_average_is_torchs(decay, dtype):
    theirs = {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(decay)}
    check(averages.ema(decay), theirs, dtype, updates=8)
    check(averages.ema(np.asarray(decay)), theirs, dtype, updates=4)


@pytest.mark.parametrize("dtype", DTYPES[4:])
def test_complex_numbers_are_pairs(dtype):
    check(averages.swa(), {}, dtype)
    check(averages.ema(0.9), {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.9)}, dtype)


def test_after_many_updates():
    """From 257 on, a count has no exact bfloat16, and torch does not round it to one."""
    rng = np.random.default_rng(1)
    average, update = averages.swa(), jax.jit(averages.swa().update)
    for dtype in DTYPES[:4]:
        for count in (256, 257, 1000, 70_001):
            old, new = (rng.normal(size=128).astype(dtype) for _ in range(2))
            state = average.init(jnp.asarray(old))._replace(n_averaged=jnp.int32(count))
            theirs = swa_utils.get_swa_avg_fn()(to_torch(old), to_torch(new), torch.tensor(count))
            assert same_bits(update(state, jnp.asarray(new)).params, to_numpy(theirs))


@pytest.mark.parametrize("decay", [-0.1, 1.1, np.array(2.0)])
def test_a_decay_outside_of_its_range(decay):
    with pytest.raises(ValueError, match="Invalid decay") as theirs:
        swa_utils.get_ema_multi_avg_fn(decay)
    with pytest.raises(ValueError, match="Invalid decay") as ours:
        averages.ema(decay)
    assert str(ours.value) == str(theirs.value)


def test_what_is_no_parameter_follows():
    average = averages.swa()
    tree = {"w": jnp.ones(2), "count": jnp.array(1, jnp.int32), "none": None, "f": jnp.tanh}
    state = average.init(tree)
    for value in (1, 2, 6):
        new = {**tree, "w": jnp.full(2, float(value)), "count": jnp.array(value, jnp.int32)}
        state = average.update(state, new)
    assert state.params["w"].tolist() == [3.0, 3.0]
    assert state.params["count"] == 6
    assert state.params["f"] is jnp.tanh


def test_the_average_is_of_the_type_of_the_first():
    average = averages.ema(0.5)
    state = average.init(jnp.ones(2, jnp.float32))
    for _ in range(2):
        state = average.update(state, jnp.ones(2, jnp.float64))
    assert state.params.dtype == jnp.float32


def test_parameters_that_do_not_fit():
    average = averages.swa()
    state = average.init({"w": jnp.ones(2)})
    with pytest.raises(ValueError, match="made for other parameters"):
        average.update(state, {"v": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"\['w'\]: the average has shape \(2,\), the parameter"):
        average.update(state, {"w": jnp.ones(3)})
    with pytest.raises(TypeError, match="the state is a dict, no AverageState: call update"):
        average.update({"w": jnp.ones(2)}, state)


def test_in_one_program_with_the_step_and_donated():
    """A parameter that is a sum of products goes into the average after it was rounded."""
    average = averages.ema(0.75)

    def step(state, param, grad):
        param = param - 0.1 * grad
        return average.update(state, param), param

    rng = np.random.default_rng(2)
    grads = rng.normal(size=(5, 1003)).astype(np.float32)
    param = jnp.asarray(rng.normal(size=1003).astype(np.float32))
    together, state = jax.jit(step, donate_argnums=0), average.init(param)
    apart, other = jax.jit(average.update), average.init(param)
    for grad in grads:
        state, param = together(state, param, grad)
        other = apart(other, param)
    assert same_bits(state.params, other.params)


def test_another_decay_is_other_data():
    update = jax.jit(lambda average, state, params: average.update(state, params))
    for decay in (0.5, 0.75):
        average = averages.ema(decay)
        state = update(average, average.init(jnp.zeros(1)), jnp.ones(1))
        assert update(average, state, jnp.zeros(1)).params == decay
    assert update._cache_size() == 1
