"""Values that cannot be saved, and in which words."""

from collections import namedtuple
from functools import reduce

import jax
import numpy as np
import pytest
import torch

from torchwise.checkpoint import CheckpointError, NestedTensor, save


def itself():
    value = {"a": []}
    value["a"].append(value)
    return value


class Unit(np.ndarray):
    """As libraries have them that give arrays units."""


UNSAVABLE = {
    "frozenset": (
        {"optimizer": {"state": [frozenset()]}},
        TypeError,
        r"\['optimizer'\]\['state'\]\[0\] of type",
    ),
    "function": ([len], TypeError, r"save \[0\] of type builtin_function"),
    "root": (range(3), TypeError, "save the value of type range"),
    "date": ({"a": np.datetime64(1, "s")}, TypeError, "of type datetime64"),
    "named_tuple": ([namedtuple("Pair", "x")(1)], TypeError, r"of type Pair, .* x\._asdict\(\)"),
    "tuple_key": ({(1, len): 1}, TypeError, r"\[1\] of type builtin_function"),
    "nested": ({"a": NestedTensor((np.ones(2),))}, TypeError, r"\['a'\]"),
    "object_array": ({"a": np.array([None])}, TypeError, r"\['a'\]: torch has no dtype object"),
    "text_array": ({"a": np.array(["x"])}, TypeError, "no dtype <U1"),
    "masked": (
        {"a": np.ma.array([1.0, 2.0], mask=[True, False])},
        TypeError,
        r"\['a'\]: a masked array would lose its mask; save array.data and array.mask",
    ),
    "subclass": ({"a": Unit(2)}, TypeError, r"\['a'\]: only its elements .* of a Unit; save numpy"),
    "key": ({"a": jax.random.key(0)}, TypeError, r"save \['a'\]: "),
    "sparse": ({"a": torch.eye(2).to_sparse()}, TypeError, r"\['a'\]: only dense tensors"),
    "meta": ({"a": torch.empty(1, device="meta")}, TypeError, "only dense tensors"),
    "itself": (itself(), CheckpointError, r"\['a'\]\[0\]: it contains itself"),
    "deep": (
        reduce(lambda x, _: [x], range(101), 0),
        CheckpointError,
        "more than 100 containers in each",
    ),
    "long": ([1 << 9000], CheckpointError, "longer than 2039 bits"),
    "long_key": ({1 << 64: 1}, CheckpointError, "integer keys have 64 bits"),
}


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("case", UNSAVABLE)
def test_values_that_cannot_be_saved(tmp_path, case, suffix):
    value, error, words = UNSAVABLE[case]
    with pytest.raises(error, match=words):
        save(tmp_path / f"file.{suffix}", value)
    assert list(tmp_path.iterdir()) == []


def test_traced_arrays_cannot_be_saved(tmp_path):
    with pytest.raises(TypeError, match=r"cannot save \['a'\]: "):
        jax.jit(lambda x: save(tmp_path / "file.pt", {"a": x}))(1.0)


def test_other_suffixes_cannot_be_saved(tmp_path):
    with pytest.raises(CheckpointError, match=r"not one of \.pt, \.pth, .* or \.safetensors; pass"):
        save(tmp_path / "file.npz", {})
