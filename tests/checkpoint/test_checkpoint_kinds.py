"""Every kind of value that `torch.load(weights_only=True)` reads is read, with equal values."""

import io
import struct
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from checkpoint_tools import assert_refused, assert_same

from torchwise.checkpoint import (
    MetaTensor,
    NestedTensor,
    QuantizedTensor,
    SparseTensor,
    load,
    save,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of prototypes

LAYOUTS = ("sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc")


def with_attributes(tensor):
    """What FSDP1 does to each tensor of a full state dict."""
    tensor._has_been_cloned = True
    tensor.note = {"of": (1, None)}
    return tensor


def dict_with_attributes():
    state = OrderedDict(a=torch.ones(2))
    state._metadata = OrderedDict([("", {"version": 1})])
    state.note = "x"
    return state


def sparse(layout):
    dense = torch.arange(48.0).reshape(8, 6) * (torch.arange(8)[:, None] % 3 == 0)
    if layout == "sparse_coo":
        return dense.to_sparse()
    if layout.startswith("sparse_b"):
        return getattr(dense, f"to_{layout}")((4, 3))
    return getattr(dense, f"to_{layout}")()


def uncoalesced():
    return torch.sparse_coo_tensor([[2, 0, 2]], torch.arange(6.0).reshape(3, 2), (4, 2))


KINDS = {
    "bytes": lambda: [b"ab\xff\0", b"x"],
    "bytearray": lambda: [bytearray(b"a\xff"), bytearray()],
    "set": lambda: [{1, 2, "x", (1, 2), None}, set()],
    "complex": lambda: [3 + 2j, complex("inf"), -0j],
    "tuple_keys": lambda: {(1, "a"): 3, (1, (2.0, None)): {(): 4}, b"k": 1, 2j: 2},
    "long_keys": lambda: {2**64: 1, -(2**70): 2},
    "counter": lambda: Counter("abca"),
    "types": lambda: [torch.Size([2]), torch.int4, torch.strided, torch.per_tensor_affine],
    "dict_with_attributes": dict_with_attributes,
    "parameter": lambda: torch.nn.Parameter(torch.ones(2)),
    "parameter_with_attributes": lambda: with_attributes(torch.nn.Parameter(torch.ones(2))),
    "tensor_with_attributes": lambda: {"w": with_attributes(torch.ones(2)), "n": 3},
    "buffer": lambda: torch.nn.Buffer(torch.ones(2)),
    "conjugate": lambda: torch.tensor([[1 + 2j, 3 - 1j]]).conj().t(),
    "negative": lambda: torch.tensor([1 + 2j, 3.0]).conj().imag,
    "both": lambda: torch._neg_view(torch.tensor([1 + 2j]).conj()),
    **{layout: lambda layout=layout: sparse(layout) for layout in LAYOUTS},
    "sparse_uncoalesced": uncoalesced,
    "sparse_empty": lambda: torch.sparse_coo_tensor(size=(3, 0)),
    "sparse_batch": lambda: torch.eye(4).repeat(3, 1, 1).to_sparse_csr(),
    "sparse_dense_axes": lambda: torch.arange(12.0).reshape(2, 3, 2).to_sparse_csr(dense_dim=1),
    "sparse_momentum": lambda: {"state": {0: {"momentum_buffer": uncoalesced().coalesce()}}},
    "quantized": lambda: torch.quantize_per_tensor(torch.randn(3, 4), 0.1, 3, torch.quint8).t(),
    "quantized_int32": lambda: torch.quantize_per_tensor(torch.randn(3), 1e-3, 0, torch.qint32),
    "quantized_by_channel": lambda: torch.quantize_per_channel(
        torch.randn(2, 3), torch.tensor([0.1, 0.3]), torch.tensor([1, -2]), 0, torch.qint8
    ),
    "meta": lambda: torch.empty(3, 2, dtype=torch.bfloat16, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2, 3), torch.zeros(1, 3)]),
    "jagged": lambda: torch.nested.nested_tensor(
        [torch.ones(2, 3), torch.zeros(1, 3)], layout=torch.jagged
    ),
    "complex32": lambda: torch.view_as_complex(torch.randn(3, 2).half()),
}


def check(ours, theirs):
    """Compare what we read with what torch reads."""
    if not isinstance(theirs, torch.Tensor):
        if isinstance(theirs, dict | list | tuple):
            pairs = zip(theirs, ours, strict=True)
            if isinstance(theirs, dict):
                assert type(ours) is (Counter if type(theirs) is Counter else dict)
                pairs = zip(theirs.items(), ours.items(), strict=True)
            for their, our in pairs:
                check(our, their)
        elif type(theirs) in (torch.dtype, torch.layout, torch.qscheme):
            assert ours == str(theirs)
        else:
            assert type(ours) is type(theirs)
            assert ours == theirs if type(ours) is set else repr(ours) == repr(theirs)
    elif theirs.is_meta:
        assert type(ours) is MetaTensor
        assert (ours.shape, ours.dtype.name) == ((3, 2), "bfloat16")
    elif theirs.is_nested:
        assert type(ours) is NestedTensor
        for our, their in zip(ours.tensors, theirs.unbind(), strict=True):
            assert_same(our, their)
    elif theirs.is_quantized:
        assert type(ours) is QuantizedTensor
        assert ours.shape == tuple(theirs.shape)
        assert np.array_equal(ours.values, theirs.int_repr().numpy())
        assert np.array_equal(ours.dequantize(), theirs.dequantize().numpy())
        assert ours.scheme == str(theirs.qscheme()).removeprefix("torch.")
    elif theirs.layout is not torch.strided:
        assert type(ours) is SparseTensor
        assert (ours.layout, ours.shape) == (str(theirs.layout)[6:], tuple(theirs.shape))
        assert np.array_equal(ours.todense(), theirs.to_dense().numpy())
        if theirs.layout is torch.sparse_coo:
            assert_same(ours.indices, theirs._indices())
            assert ours.is_coalesced == theirs.is_coalesced()
    else:
        theirs = theirs.to(torch.complex64) if theirs.dtype == torch.complex32 else theirs
        assert_same(ours, theirs.resolve_conj().resolve_neg())


@pytest.mark.parametrize("case", KINDS)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_weights_only_reads_is_read(tmp_path, case, zipped):
    if case in ("nested", "complex32") and not zipped:
        pytest.skip("torch itself does not read these in its old format")
    torch.manual_seed(0)
    path = tmp_path / "model.of.any_suffix"
    torch.save({"value": KINDS[case]()}, path, _use_new_zipfile_serialization=zipped)
    theirs = torch.load(path, weights_only=True)["value"]
    for mmap in (False, True):
        check(load(path, mmap=mmap)["value"], theirs)


NOT_WRITTEN = {"nested": "nested tensor", "jagged": "nested tensor", "long_keys": "64 bits"}
ONLY_PT = ("sparse", "quantized", "meta", "nested", "jagged")


@pytest.mark.parametrize("case", KINDS)
def test_what_is_read_is_written(tmp_path, case):
    torch.manual_seed(0)
    torch.save({"value": KINDS[case]()}, tmp_path / "torch.pt")
    value = load(tmp_path / "torch.pt")
    if case in NOT_WRITTEN:
        with pytest.raises((TypeError, ValueError), match=NOT_WRITTEN[case]):
            save(tmp_path / "ours.pt", value)
        return
    save(tmp_path / "ours.pt", value)
    theirs = torch.load(tmp_path / "torch.pt", weights_only=True)["value"]
    back = torch.load(tmp_path / "ours.pt", weights_only=True)["value"]
    check(load(tmp_path / "ours.pt")["value"], theirs)
    if isinstance(theirs, torch.Tensor) and not theirs.is_meta and theirs.dtype != torch.complex32:
        assert back.layout == theirs.layout
        assert back.is_quantized == theirs.is_quantized
        dense = (x.dequantize() if x.is_quantized else x.to_dense() for x in (back, theirs))
        assert torch.equal(*dense)
    if case.startswith(ONLY_PT):
        with pytest.raises(TypeError, match=r"cannot save \['value'\].*\.pt and \.pth hold it"):
            save(tmp_path / "ours.safetensors", value)
    else:
        save(tmp_path / "ours.safetensors", value)
        check(load(tmp_path / "ours.safetensors")["value"], theirs)


def test_old_files_share_storages_and_know_views(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    value = [base, base[1:].t(), torch.ones(2, dtype=torch.bfloat16), network.state_dict()]
    path = tmp_path / "vgg16.pth"
    torch.save(value, path, _use_new_zipfile_serialization=False)
    whole, part, *_ = ours = load(path)
    assert_same(ours, torch.load(path, weights_only=True))
    assert np.shares_memory(whole, part)
    save(path, ours)
    assert_same(load(path), value)


def legacy_bytes(value):
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def test_old_files_that_are_damaged_are_refused(tmp_path):
    whole = legacy_bytes({"a": torch.arange(4.0)})
    count = struct.pack("<q", 4)
    damaged = {
        "is truncated": whole[:-1],
        "behind its last storage": whole + b"x",
        "of another size": whole.replace(count, struct.pack("<q", 3)),
        "reaches element 4": whole.replace(b"QK\0", b"QK\1"),
        "big-endian": whole.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89"),
        "version of torch's old format": whole.replace(b"M\xe9\x03", b"M\xe8\x03"),
        "middle of an instruction": whole[:200],
        "that nothing names": whole.replace(b"storageq", b"stOrageq"),
    }
    for words, content in damaged.items():
        assert_refused(tmp_path / "file.pth", content, words)


def test_long_pickles_of_old_files_are_read_whole(tmp_path):
    value = {"text": "x" * (2**20 + 5), "w": torch.ones(2)}
    torch.save(value, tmp_path / "file.pth", _use_new_zipfile_serialization=False)
    assert_same(load(tmp_path / "file.pth"), value)


def test_sparse_tensors_that_lie_are_refused(tmp_path):
    def saved(indices, values, size):
        sparse = torch.sparse_coo_tensor(indices, values, size, check_invariants=False)
        file = io.BytesIO()
        torch.save({"a": sparse}, file)
        return file.getvalue()

    ones = torch.ones(2)
    assert_refused(
        tmp_path / "a.pt", saved([[0, 5]], ones, (3,)), r"\['a'\]: .*indices outside of its shape"
    )
    assert_refused(tmp_path / "a.pt", saved([[-1, 0]], ones, (3,)), "indices outside of its shape")
    lying = torch.sparse_csr_tensor([0, 2, 1], [0, 1], ones, (2, 2), check_invariants=False)
    file = io.BytesIO()
    torch.save(lying, file)
    assert_refused(tmp_path / "a.pt", file.getvalue(), "compressed indices|do not fit")
