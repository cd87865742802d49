import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from checkpoint_tools import (
    CHECKPOINTS,
    DTYPES,
    FOLDER,
    assert_same,
    elements,
    run_program,
    torch_bytes,
)

from torchwise.checkpoint import load, save

BASE = torch.arange(24.0).reshape(4, 6)
VIEWS = {
    "scalar": BASE[2, 3],
    "empty": torch.zeros(0, 3),
    "empty_slice": BASE[4:, 1:],
    "transposed": BASE.t(),
    "sliced": BASE[1:, ::2],
    "expanded": BASE[:, :1].expand(4, 5),
    "one_element_with_odd_stride": torch.ones(8).as_strided((1, 2), (999, 3)),
    "permuted": torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "buffer": torch.nn.Buffer(torch.ones(2)).detach(),
}
PLAIN = {
    "none": None,
    "booleans": [True, False],
    "integers": [
        0,
        1,
        -1,
        255,
        256,
        65535,
        65536,
        2**31 - 1,
        2**31,
        -(2**31),
        2**100,
        -(2**100),
        2**2039 - 1,
    ],
    "floats": [0.0, -0.0, 1.5, 5e-324, float("inf"), float("-inf"), float("nan")],
    "strings": ["", "a", "\u00e4\u6f22\U0001f600", "\ud800", "a" * 70000],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    "keys": {0: "a", "0": "b", -1: "c", None: "d", 0.5: "e"},
    "long_list": list(range(2500)),
    "nested": {"a": [{"b": ({},)}]},
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.pt"


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_read(path, dtype):
    value = {"tensor": elements(dtype), "transposed": elements(dtype).t()}
    torch.save(value, path)
    assert_same(load(path), value)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_written(path, dtype, mapped):
    value = {"tensor": elements(dtype), "transposed": elements(dtype).t()}
    save(path, value)
    assert_same(load(path), torch.load(path, weights_only=True, mmap=mapped))
    assert_same(load(path), value)


@pytest.mark.parametrize("case", VIEWS)
def test_every_kind_of_view_is_read_and_written(path, case):
    torch.save(VIEWS[case], path)
    assert_same(load(path), VIEWS[case])
    save(path, VIEWS[case])
    assert_same(load(path), torch.load(path, weights_only=True))
    assert_same(load(path), VIEWS[case])


@pytest.mark.parametrize("case", PLAIN)
def test_plain_values_are_read_and_written(path, case):
    torch.save(PLAIN[case], path)
    assert_same(load(path), PLAIN[case])
    save(path, PLAIN[case])
    assert_same(load(path), PLAIN[case])
    assert_same(torch.load(path, weights_only=True), PLAIN[case])


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_training_checkpoints_are_read_and_written(path, case):
    value = CHECKPOINTS[case]()
    torch.save(value, path)
    ours = load(path)
    assert_same(ours, value)
    save(path, ours)
    assert_same(load(path), torch.load(path, weights_only=True, mmap=True))
    assert_same(load(path), value)


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_kept_checkpoints_of_torch_2_13_are_read(case):
    kept = FOLDER / "data" / f"{case}.pt"
    assert_same(load(kept), torch.load(kept, weights_only=True))


def test_torch_resumes_from_what_we_write(path):
    value = CHECKPOINTS["training_sgd"]()
    save(path, value)
    network = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2, bias=False)
    )
    optimizer = torch.optim.SGD(network.parameters())
    read = torch.load(path, weights_only=True)
    network.load_state_dict(read["model"])
    optimizer.load_state_dict(read["optimizer"])
    assert optimizer.param_groups[0]["dampening"] == 0.1
    torch.testing.assert_close(optimizer.state_dict(), value["optimizer"], rtol=0, atol=0)


def test_types_of_torch_become_plain(path):
    value = [torch.Size([2, 3]), torch.float8_e5m2, torch.device("cuda:1"), torch.device("cpu")]
    torch.save(value, path)
    assert load(path) == [(2, 3), "torch.float8_e5m2", "cuda:1", "cpu"]


def test_shared_storage_stays_shared(path):
    torch.save([BASE, BASE.t(), BASE[1:], torch.ones(3)], path)
    whole, transposed, part, other = load(path)
    assert np.shares_memory(whole, transposed)
    assert np.shares_memory(whole, part)
    assert not np.shares_memory(whole, other)


def test_one_object_is_stored_once(path):
    array = np.ones(1000, np.float32)
    save(path, {"first": array, "second": [array]})
    assert path.stat().st_size < 1.5 * array.nbytes
    read = torch.load(path, weights_only=True)
    assert read["first"].data_ptr() == read["second"][0].data_ptr()


def test_arrays_of_every_library_are_written(path):
    value = {
        "numpy": np.arange(3.0),
        "big_endian": np.arange(3, dtype=">i4"),
        "strided": np.arange(12.0)[::3],
        "jax": jnp.ones((2, 2), jnp.bfloat16),
        "torch": torch.ones(2, requires_grad=True),
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "numbers": [np.float32(0.5), np.int64(3), np.bool_(True), np.str_("a")],
    }
    save(path, value)
    read = torch.load(path, weights_only=True)
    assert_same(load(path), read)
    assert read["big_endian"].tolist() == [0, 1, 2]
    assert read["strided"].tolist() == [0.0, 3.0, 6.0, 9.0]
    assert read["jax"].dtype == torch.bfloat16
    assert read["conjugate"].tolist() == [1 - 2j]
    assert read["numbers"] == [0.5, 3, True, "a"]
    assert [type(number) for number in read["numbers"]] == [float, int, bool, str]


def test_mapped_arrays_outlive_the_replacement_of_their_file(path):
    torch.save({"a": torch.arange(5)}, path)
    array = load(path, mmap=True)["a"]
    save(path, {"a": np.zeros(5)})
    assert array.tolist() == [0, 1, 2, 3, 4]


def test_storages_are_aligned_like_those_of_torch(path):
    save(path, {"odd": np.ones(3, np.uint8), "wide": np.ones(3), "name" * 20: np.ones(5)})
    for mmap in (False, True):
        arrays = list(load(path, mmap=mmap).values())
        assert [array.__array_interface__["data"][0] % 64 for array in arrays] == [0, 0, 0]


def test_saving_is_deterministic(tmp_path):
    value = CHECKPOINTS["training_adagrad"]()
    for suffix in ("pt", "safetensors"):
        first, second = (tmp_path / f"{name}.{suffix}" for name in ("first", "second"))
        save(first, value)
        save(second, value)
        assert first.read_bytes() == second.read_bytes()


def test_checksums_may_be_turned_off(path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": BASE}, path)
    finally:
        torch.serialization.set_crc32_options(before)
    assert_same(load(path), {"a": BASE})


def test_files_of_any_name_and_suffix_are_read_by_content(tmp_path):
    strange = tmp_path / "\u00e4 model.checkpoint"
    torch.save({"a": BASE}, strange)
    assert_same(load(str(strange)), {"a": BASE})
    path = tmp_path / "wrong.safetensors"
    path.write_bytes(torch_bytes({"a": BASE}))
    assert_same(load(path), {"a": BASE})


def test_torch_is_never_imported(tmp_path):
    for case in CHECKPOINTS:
        shutil.copy(FOLDER / "data" / f"{case}.pt", tmp_path)
    assert run_program("without_torch.py", tmp_path).split() == ["files", str(len(CHECKPOINTS))]
