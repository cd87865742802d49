import json
from collections import Counter, OrderedDict

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from checkpoint_tools import DTYPES, assert_equal, assert_same, elements, safetensors_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from torchwise.checkpoint import load, save

text = st.text(st.characters(), max_size=6)
keys = text | st.integers(-(2**63) + 1, 2**63 - 1) | st.booleans() | st.none() | st.floats()
arrays = hnp.arrays(
    st.sampled_from([np.float32, np.int64, np.bool_, np.uint16, ml_dtypes.bfloat16, np.complex64]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    elements=st.just(1),
)
leaves = arrays | text | st.integers(-(2**200), 2**200) | st.booleans() | st.none() | st.floats()
values = st.recursive(
    leaves,
    lambda children: (
        st.lists(children, max_size=4)
        | st.lists(children, max_size=4).map(tuple)
        | st.dictionaries(keys, children, max_size=4)
        | st.dictionaries(keys, st.integers(0, 9), max_size=3).map(Counter)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(value=values)
def test_any_value_comes_back(tmp_path, suffix, value):
    path = tmp_path / f"file.{suffix}"
    save(path, value)
    assert_equal(load(path), value)


@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "complex128"])
def test_every_dtype_agrees_with_safetensors(tmp_path, dtype):
    path = tmp_path / "file.safetensors"
    value = {"a": elements(dtype), "b": torch.ones(3)}
    safetensors.torch.save_file(value, path)
    assert_same(dict(sorted(load(path).items())), value)
    save(path, value)
    theirs = safetensors.torch.load_file(path)
    assert_same(load(path), {key: theirs[key] for key in value})
    assert_same(load(path), value)


def test_names_say_where_a_tensor_is(tmp_path):
    path = tmp_path / "file.safetensors"
    array = np.arange(2.0)
    value = {
        "state": {0: {"momentum_buffer": array}, "0": {"momentum_buffer": array + 1}},
        "state.0": [array + 2, (array + 3,)],
        "__metadata__": array + 4,
        "again": array,
    }
    save(path, value)
    assert set(safetensors.numpy.load_file(path)) == {
        "state.0.momentum_buffer",
        "state.0.momentum_buffer~2",
        "state.0.0",
        "state.0.1.0",
        "__metadata__~2",
    }
    read = load(path)
    assert_equal(read, value)
    assert np.shares_memory(read["again"], read["state"][0]["momentum_buffer"])


def test_a_single_array_and_an_ordered_dict_are_saved(tmp_path):
    path = tmp_path / "file.safetensors"
    save(path, jnp.ones(3))
    assert_equal(load(path), np.ones(3, np.float32))
    save(path, OrderedDict(b=1, a=OrderedDict()))
    assert_equal(load(path), {"b": 1, "a": {}})


def test_names_that_unicode_cannot_write_are_replaced(tmp_path):
    path = tmp_path / "file.safetensors"
    value = {"\ud800": np.ones(1), "?": np.zeros(1)}
    save(path, value)
    assert set(safetensors.numpy.load_file(path)) == {"?", "?~2"}
    assert_equal(load(path), value)


def test_files_of_others_are_flat_dicts(tmp_path):
    path = tmp_path / "file.safetensors"
    value = {"layer.weight": np.ones((2, 3), np.float32), "layer.bias": np.zeros(3, np.int8)}
    safetensors.numpy.save_file(value, path, metadata={"format": "pt"})
    read = load(path)
    assert_equal({key: read[key] for key in value}, value)
    assert not read["layer.weight"].flags.owndata


def test_unaligned_tensors_are_copied(tmp_path):
    path = tmp_path / "file.safetensors"
    entries = {
        "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
    }
    data = b"\x07" + np.array([1, 2], np.float32).tobytes()
    path.write_bytes(safetensors_bytes(json.dumps(entries), data))
    for mmap in (False, True):
        read = load(path, mmap=mmap)
        assert read["b"].flags.aligned
        assert not read["b"].flags.writeable
        assert_equal(read, {"a": np.array([7], np.uint8), "b": np.array([1, 2], np.float32)})


def test_what_the_format_cannot_hold_is_named(tmp_path):
    path = tmp_path / "file.safetensors"
    with pytest.raises(TypeError, match=r"state\.z: safetensors has no dtype complex128; use \.pt"):
        save(path, {"state": {"z": np.ones(2, np.complex128)}})
    assert list(tmp_path.iterdir()) == []
