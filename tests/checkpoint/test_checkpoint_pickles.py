"""Pickles that are refused, and in which words."""

import pickle
from argparse import Namespace
from collections import deque
from functools import reduce

import numpy as np
import pytest
import torch
from checkpoint_tools import (
    FLOATS,
    assert_refused,
    integer,
    name,
    pt_bytes,
    sequence,
    storage,
    tensor,
    text,
    torch_bytes,
)

from torchwise.checkpoint import load

PROTOCOL = pickle.PROTO + b"\x02"
EMPTY, REDUCE = pickle.EMPTY_TUPLE, pickle.REDUCE


def put(index):
    return pickle.LONG_BINPUT + index.to_bytes(4, "little")


def get(index):
    return pickle.LONG_BINGET + index.to_bytes(4, "little")


def doubling(times):
    """Lists of two references to the list before: 2 ** times leaves."""
    steps = (
        pickle.EMPTY_LIST + pickle.MARK + get(i) * 2 + pickle.APPENDS + put(i + 1)
        for i in range(times)
    )
    return pickle.EMPTY_LIST + put(0) + b"".join(steps)


def untyped(dtype):
    arguments = tensor(storage("UntypedStorage", module="torch.storage", count=16))
    return arguments.replace(b"_v2", b"_v3")[:-2] + name("torch", dtype) + pickle.TUPLE + REDUCE


def short(value):
    """A string as Python 2 writes it."""
    return pickle.SHORT_BINSTRING + bytes([len(value)]) + value.encode()


def with_metadata(metadata):
    return tensor()[:-2] + metadata + pickle.TUPLE + REDUCE


TORCH_VALUES = {
    "module": (
        lambda: torch.nn.Linear(2, 2),
        "names 'torch.nn.modules.linear.Linear'.*records=True",
    ),
    "frozenset": (lambda: frozenset([1]), "names 'builtins.frozenset'"),
    "tensor_key": (lambda: {torch.ones(1): 2}, "names 'torch.Tensor'"),
    "storage": (lambda: torch.ones(2).untyped_storage(), "bare Storage"),
    "deep": (lambda: reduce(lambda x, _: [x], range(101), 0), "100 deep"),
}

# Where in the value the refused part stands.
PLACES = {
    "class": (lambda: {"args": [1, Namespace(lr=1)]}, r"at \['args'\]\[1\]: names 'argparse.Name"),
    "numpy": (
        lambda: [{"best": np.array("text")}],
        r"at \[0\]\['best'\]: names 'numpy._core.multiarray._reconstruct'",
    ),
    "deque": (lambda: {"losses": deque([1, 2])}, r"at \['losses'\]: names 'collections.deque'"),
    "module": (
        lambda: {"net": torch.nn.Linear(2, 2)},
        r"at \['net'\]: names 'torch.nn.modules.lin",
    ),
    "deep": (lambda: {"a": reduce(lambda x, _: [x], range(101), 0)}, r"at \['a'\]\[0\].*100 deep"),
    "long": (lambda: {"x" * 10_000: {1: deque()}}, r"at \['x+\.\.\.x+'\]\[1\]: names"),
    "device": (
        lambda: {"of": {torch.device("cpu"): 1, "cpu": 2}},
        r"at \['of'\]\['cpu'\]: has the key 'cpu' twice; a torch.device or torch.dtype and the",
    ),
    "dtype": (lambda: {"torch.int8": 1, torch.int8: 2}, "the key 'torch.int8' twice"),
}

PICKLES = {
    "dropped": (
        pickle.EMPTY_DICT
        + text("a")
        + name("os", "system")
        + pickle.EMPTY_DICT
        + text("_metadata")
        + name("os", "remove")
        + pickle.SETITEM
        + pickle.BUILD
        + pickle.NONE
        + pickle.SETITEM,
        "sets attributes",
    ),
    "refused_state": (
        pickle.EMPTY_DICT
        + pickle.EMPTY_DICT
        + text("_metadata")
        + name("os", "remove")
        + pickle.SETITEM
        + pickle.BUILD,
        "names 'os.remove'",
    ),
    "refused_then_broken": (tensor(offset=1) + pickle.TUPLE2, "tensor reaches element 4"),
    "system": (name("os", "system") + sequence(text("true")) + REDUCE, "names 'os.system'"),
    "posix": (name("posix", "system") + sequence(text("true")) + REDUCE, "names 'posix.system'"),
    "eval": (name("builtins", "eval") + sequence(text("1")) + REDUCE, "names 'builtins.eval'"),
    "torch_load": (name("torch", "load") + sequence(text("x")) + REDUCE, "names 'torch.load'"),
    "dotted": (name("collections", "OrderedDict.__init__"), "OrderedDict.__init__"),
    "disguised": (name("torch", "FloatStorage.__class__"), "FloatStorage.__class__"),
    "stack_global": (text("os") + text("system") + b"\x93", "names 'os.system'"),
    "stack_global_of_number": (text("os") + integer(1) + b"\x93", "a name that is no text"),
    "instance": (pickle.MARK + name("os", "system")[1:], "opcode"),
    "new_object": (
        name("collections", "OrderedDict") + EMPTY + b"\x81",
        "makes an object in",
    ),
    "extension": (b"\x82\x01", "opcode"),
    "duplicate": (pickle.NONE + b"2", "opcode b'2'"),
    "protocol": (PROTOCOL + pickle.NONE, "opcode"),
    "call_a_string": (text("os.system") + EMPTY + REDUCE, "calls 'os.system', which is not"),
    "call_a_dtype": (name("torch", "float32") + EMPTY + REDUCE, "calls 'torch.float32'"),
    "call_a_storage": (
        name("torch", "FloatStorage") + EMPTY + REDUCE,
        "names 'torch.FloatSt",
    ),
    "call_without_tuple": (name("torch", "Size") + text("x") + REDUCE, "calls <Constructor>"),
    "arity": (name("torch", "Size") + EMPTY + REDUCE, "calls torch.Size with arguments"),
    "ordered_dict_of": (
        name("collections", "OrderedDict") + sequence(pickle.EMPTY_DICT) + REDUCE,
        "an OrderedDict that is not made of",
    ),
    "bare_function": (name("torch", "Size"), "names 'torch.Size'"),
    "build_list": (pickle.EMPTY_LIST + pickle.EMPTY_DICT + pickle.BUILD, "sets attributes"),
    "build_other": (pickle.EMPTY_DICT + pickle.NONE + pickle.BUILD, "sets attributes"),
    "build_tensor": (tensor() + pickle.EMPTY_DICT + pickle.BUILD, "sets attributes"),
    "set_item_of_list": (
        pickle.EMPTY_LIST + pickle.NONE * 2 + pickle.SETITEM,
        "sets items of what is not a dict",
    ),
    "odd_items": (pickle.EMPTY_DICT + pickle.MARK + pickle.NONE + pickle.SETITEMS, "without a"),
    "append_to_dict": (pickle.EMPTY_DICT + pickle.NONE + pickle.APPEND, "not a list"),
    "append_to_tensor": (tensor() + pickle.NONE + pickle.APPEND, "not a list"),
    "list_key": (
        pickle.EMPTY_DICT + pickle.EMPTY_LIST + pickle.NONE + pickle.SETITEM,
        r"the key \[\]",
    ),
    "underflow": (pickle.TUPLE2, "off the stack"),
    "below_mark": (pickle.NONE + pickle.MARK + pickle.TUPLE1, "off the stack"),
    "no_mark": (pickle.TUPLE, "off the stack"),
    "nothing": (b"", "stops before its end"),
    "two_values": (pickle.NONE * 2, "stops before its end"),
    "open_mark": (pickle.MARK + pickle.NONE, "stops before its end"),
    "early_stop": (pickle.NONE + pickle.STOP, "stops before its end"),
    "memo_of_nothing": (get(7), "entry 7 of its memo"),
    "lied_string": (pickle.BINUNICODE + b"\xff\xff\xff\xff", "middle of an instruction"),
    "bad_utf8": (pickle.BINUNICODE + b"\x01\0\0\0\xff", "not UTF-8"),
    "open_global": (pickle.GLOBAL + b"os", "middle of an instruction"),
    "itself": (pickle.EMPTY_LIST + put(0) + get(0) + pickle.APPEND, "contains itself"),
    "itself_deeper": (
        pickle.EMPTY_DICT
        + put(0)
        + pickle.NONE
        + pickle.EMPTY_LIST
        + get(0)
        + pickle.APPEND
        + pickle.SETITEM,
        "contains itself",
    ),
    "deep_lists": (pickle.EMPTY_LIST * 9999 + pickle.APPEND * 9998, "100 deep"),
    "deep_tuples": (EMPTY + pickle.TUPLE1 * 99999, "100 deep"),
    "laughs": (sequence(doubling(60)), "unfolds to more than"),
    "counters": (
        name("collections", "Counter")
        + put(0)
        + pickle.EMPTY_DICT
        + put(1)
        + pickle.MARK
        + b"".join(integer(i) + integer(1) for i in range(200))
        + pickle.SETITEMS
        + (get(0) + get(1) + pickle.TUPLE1 + REDUCE) * 200,
        "passes more values to its calls",
    ),
    "counter_of_list": (
        name("collections", "Counter") + pickle.EMPTY_LIST + pickle.TUPLE1 + REDUCE,
        "Counter that does not",
    ),
    "size_of_text": (
        name("torch", "Size") + sequence(sequence(text("a"))) + REDUCE,
        "torch.Size that is not",
    ),
    "device_of_length": (
        name("torch", "device") + sequence(text("x" * 65), integer(1)) + REDUCE,
        "torch.device that is not",
    ),
    "persistent_text": (text("os") + pickle.BINPERSID, "persistent id 'os'"),
    "persistent_other": (storage().replace(b"storage", b"package"), "a persistent 'package'"),
    "persistent_of_tensor": (sequence(tensor(), *[text("x")] * 4) + pickle.BINPERSID, "no known"),
    "tensor_as_device": (tensor(storage(device=tensor())), "no known kind"),
    "tensor_as_metadata": (with_metadata(tensor()), "with the bits <ndarray>"),
    "unknown_storage": (tensor(storage("WrongStorage")), "no known kind"),
    "quantized": (tensor(storage("QInt8Storage", count=16)), "a quantized one"),
    "meta_storage": (tensor(storage(device="meta")), "meta tensor"),
    "missing_member": (tensor(storage(key="1")), "no zip member 'data/1'"),
    "other_member": (tensor(storage(key="../data.pkl")), "no zip member"),
    "short_storage": (tensor(storage(count=5)), "16 bytes in data/0, where the pickle wants 5"),
    "long_storage": (tensor(storage(count=3)), "the pickle wants 3 elements"),
    "huge_storage": (tensor(storage(count=2**900)), "where the pickle wants"),
    "beyond": (tensor(shape=(5,)), "reaches element 4 of a storage that holds 4"),
    "offset_beyond": (tensor(offset=1), "reaches element 4"),
    "stride_beyond": (tensor(shape=(2,), strides=(4,)), "reaches element 4"),
    "stride_huge": (tensor(shape=(2,), strides=(2**800,)), "reaches element"),
    "shape_huge": (tensor(shape=(2**62, 4), strides=(0, 0)), "beyond what memory can hold"),
    "shape_many": (tensor(shape=(1,) * 65, strides=(1,) * 65), "65 dimensions"),
    "shape_strides": (tensor(shape=(2, 2)), "2 sizes but 1 strides"),
    "negative_stride": (tensor().replace(b"K\x01t", b"J\xff\xff\xff\xfft"), "strides"),
    "negative_offset": (tensor().replace(b"QK\0", b"QJ\xff\xff\xff\xff"), "offset"),
    "text_in_shape": (tensor().replace(b"(K\x04t(", b"(X\0\0\0\0t("), "shape"),
    "no_storage": (tensor(pickle.NONE), "a tensor on None instead of a storage"),
    "unknown_dtype": (untyped("int3"), "torch.int3"),
    "parameter_of_text": (
        name("torch._utils", "_rebuild_parameter")
        + sequence(text("x"), pickle.NONE, pickle.NONE)
        + REDUCE,
        "a parameter on 'x'",
    ),
}


@pytest.mark.filterwarnings("ignore")  # torch warns of the prototypes that are made here
@pytest.mark.parametrize("case", TORCH_VALUES)
def test_values_of_torch_that_are_not_plain(tmp_path, case):
    make, words = TORCH_VALUES[case]
    assert_refused(tmp_path / "file.pt", torch_bytes({"value": make()}), words)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", PLACES)
def test_errors_say_under_which_key(tmp_path, case):
    make, words = PLACES[case]
    assert_refused(tmp_path / "file.pt", torch_bytes(make()), words)


def test_a_damaged_tensor_is_found_under_its_key(tmp_path):
    program = pickle.EMPTY_DICT + text("weight") + tensor(offset=1) + pickle.SETITEM
    content = pt_bytes(program, [FLOATS])
    assert_refused(tmp_path / "file.pt", content, r"at \['weight'\]: tensor reaches element 4")


@pytest.mark.parametrize("case", PICKLES)
def test_pickles_that_torch_does_not_write(tmp_path, case):
    program, words = PICKLES[case]
    assert_refused(tmp_path / "file.pt", pt_bytes(program, [FLOATS]), words)


def test_hand_made_files_are_right_where_they_do_not_lie(tmp_path):
    path = tmp_path / "file.pt"
    path.write_bytes(pt_bytes(tensor(), [FLOATS]))
    assert load(path).tolist() == [0, 1, 2, 3]
    items = (sequence(short(key), integer(i)) for i, key in enumerate(["b", "a"]))
    pairs = pickle.EMPTY_LIST + pickle.MARK + b"".join(items) + pickle.APPENDS
    path.write_bytes(pt_bytes(name("collections", "OrderedDict") + sequence(pairs) + REDUCE))
    assert list(load(path).items()) == [("b", 0), ("a", 1)]
    path.write_bytes(pt_bytes(untyped("uint32"), [FLOATS]))
    assert load(path).dtype == np.uint32
    path.write_bytes(pt_bytes(tensor(shape=(2**50,), strides=(0,)), [FLOATS]))
    assert load(path)[-1] == 0
    path.write_bytes(pt_bytes(tensor(shape=(1, 4), strides=(2**62, 1)), [FLOATS]))
    assert load(path).tolist() == [[0, 1, 2, 3]]
