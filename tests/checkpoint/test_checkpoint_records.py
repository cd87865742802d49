"""Objects of classes that are not known here become records; nothing of them is run."""

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import pathlib
import pickle
import random
import sys
import types
import uuid

import numpy as np
import pytest
import stand_ins
import torch
from checkpoint_tools import (
    assert_refused,
    assert_same,
    integer,
    name,
    pt_bytes,
    sequence,
    text,
    torch_bytes,
)

from torchwise import checkpoint
from torchwise.checkpoint import (
    CheckpointError,
    Name,
    Record,
    load,
    module_state_dict,
    pickle_stack,
    save,
)
from torchwise.inspection import describe

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of TypedStorage and prototypes


class Color(enum.Enum):
    RED = 3


@dataclasses.dataclass
class Config:
    lr: float = 0.1
    betas: tuple = (0.9, 0.999)


class Slotted:
    __slots__ = ("lr", "seed")

    def __init__(self):
        self.lr, self.seed = 0.1, 3


class Scaled(torch.Tensor):
    pass


class Hostile:
    def __reduce__(self):
        return exec, ("raise SystemExit('the code of a file was run')",)


def vars_of(value):
    return [getattr(value, name) for name in getattr(value, "__slots__", ["missing"])]


def knows_itself():
    one = types.SimpleNamespace(lr=0.1)
    one.me, one.all = one, [{"again": one}]
    return one


NAMESPACE = argparse.Namespace(lr=0.1, data=pathlib.PurePosixPath("/data"), inner={"best": None})
# The value, the name of its record, and what is in it.
KINDS = {
    "namespace": (NAMESPACE, "argparse.Namespace", lambda r: r.attributes["lr"] == 0.1),
    "simple_namespace": (
        types.SimpleNamespace(a=[1]),
        "types.SimpleNamespace",
        lambda r: r.attributes == {"a": [1]},
    ),
    "path": (
        pathlib.PurePosixPath("/a/b"),
        "pathlib.PurePosixPath",
        lambda r: r.arguments == ("/", "a", "b"),
    ),
    "datetime": (
        datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "datetime.datetime",
        lambda r: r.arguments[0][:2] == (2026).to_bytes(2, "big"),
    ),
    "timedelta": (
        datetime.timedelta(3),
        "datetime.timedelta",
        lambda r: r.arguments == (3, 0, 0),
    ),
    "enum": (Color.RED, f"{__name__}.Color", lambda r: r.arguments == (3,)),
    "dataclass": (
        Config(),
        f"{__name__}.Config",
        lambda r: r.attributes == {"lr": 0.1, "betas": (0.9, 0.999)},
    ),
    "slots": (
        Slotted(),
        f"{__name__}.Slotted",
        lambda r: r.attributes == {"lr": 0.1, "seed": 3},
    ),
    "deque": (
        collections.deque([1, 2], 5),
        "collections.deque",
        lambda r: [*(r.items or ()), *r.arguments] in ([1, 2, [], 5], [1, 2, (), 5]),
    ),
    "defaultdict": (
        collections.defaultdict(list, {"a": [1]}),
        "collections.defaultdict",
        lambda r: r.arguments == (Name("builtins", "list"),) and r.entries == {"a": [1]},
    ),
    "range": (range(1, 9, 2), "builtins.range", lambda r: r.arguments == (1, 9, 2)),
    "slice": (slice(1, None), "builtins.slice", lambda r: r.arguments == (1, None, None)),
    "frozenset": (frozenset([1]), "builtins.frozenset", lambda r: r.arguments == ([1],)),
    "decimal": (decimal.Decimal("0.1"), "decimal.Decimal", lambda r: r.arguments == ("0.1",)),
    "uuid": (uuid.UUID(int=5), "uuid.UUID", lambda r: r.attributes["int"] == 5),
    "exception": (ValueError("x"), "builtins.ValueError", lambda r: r.arguments == ("x",)),
    "random": (
        random.Random(0),
        "random.Random",
        lambda r: len(r.state[1]) == 625,
    ),
    "partial": (
        functools.partial(int, base=2),
        "functools.partial",
        lambda r: r.arguments == (Name("builtins", "int"),) and r.state[2] == {"base": 2},
    ),
    "text_array": (
        np.array(["a", "b"]),
        "numpy._core.multiarray._reconstruct",
        lambda r: r.state[1] == (2,),
    ),
    "generator": (
        np.random.default_rng(0),
        "numpy.random._pickle.__generator_ctor",
        lambda r: isinstance(r.arguments[0], Record),
    ),
    "subclass": (
        torch.ones(2).as_subclass(Scaled),
        f"{__name__}.Scaled",
        lambda r: r.how == "viewed" and r.arguments[0].tolist() == [1, 1],
    ),
    "optimizer": (
        torch.optim.lr_scheduler.LambdaLR,
        None,
        lambda r: r == Name("torch.optim.lr_scheduler", "LambdaLR"),
    ),
    "hostile": (
        Hostile(),
        "builtins.exec",
        lambda r: r.arguments == ("raise SystemExit('the code of a file was run')",),
    ),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("case", KINDS)
def test_objects_become_records(tmp_path, case, zipped):
    value, kind, holds = KINDS[case]
    path = tmp_path / "file.bin"
    torch.save({"x": [value], "w": torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    with pytest.raises(CheckpointError, match=r"at \['x'\]\[0\]: names '.*records=True"):
        load(path)
    read = load(path, records=True)
    record = read["x"][0]
    assert kind is None or (type(record) is Record and record.name == kind)
    assert holds(record)
    assert len(repr(record)) < 300
    assert read["w"].tolist() == [1, 1]
    assert str(kind or record) in "\n".join(describe(read))


ONCE_MORE = [case for case in KINDS if case not in ("hostile", "random", "generator", "exception")]


@pytest.mark.parametrize("case", ONCE_MORE)
def test_records_are_written_back(tmp_path, case):
    value = KINDS[case][0]
    torch.save({"x": value}, tmp_path / "torch.pt")
    save(tmp_path / "ours.pt", load(tmp_path / "torch.pt", records=True))
    back = torch.load(tmp_path / "ours.pt", weights_only=False)["x"]
    assert type(back) is type(value)
    if case in ("slots", "simple_namespace", "partial", "text_array", "subclass"):
        assert str(back) == str(value) or vars_of(back) == vars_of(value)
    else:
        assert back == value
    with pytest.raises(TypeError, match=r"cannot save \['x'\].*\.pt and \.pth hold it"):
        save(tmp_path / "ours.safetensors", load(tmp_path / "torch.pt", records=True))


def test_numbers_and_arrays_of_numpy_are_values(tmp_path):
    value = {
        "best": [np.float64(0.5), np.int32(3), np.bool_(True), np.complex64(1j), np.float16(2)],
        "arrays": [
            np.arange(6).reshape(2, 3),
            np.asfortranarray(np.ones((2, 3), np.float32)),
            np.arange(3, dtype=">i4"),
            np.zeros((0, 2)),
        ],
        "numpy": np.random.RandomState(0).get_state(),
    }
    for zipped in (True, False):
        torch.save(value, tmp_path / "rng.pth", _use_new_zipfile_serialization=zipped)
        ours = load(tmp_path / "rng.pth")
        for read, original in zip(ours["best"], value["best"], strict=True):
            assert type(read) is type(original)
            assert read == original
        for read, original in zip(
            [*ours["arrays"], ours["numpy"][1]], [*value["arrays"], value["numpy"][1]], strict=True
        ):
            assert (read.dtype, read.shape) == (original.dtype, original.shape)
            assert np.array_equal(read, original)
            assert not read.flags.writeable


def test_arrays_in_records_stay_what_they_were(tmp_path):
    value = argparse.Namespace(a=np.arange(3.0), t=torch.ones(2), best=np.float32(0.1), plain=0.5)
    torch.save(value, tmp_path / "torch.pt")
    save(tmp_path / "ours.pt", load(tmp_path / "torch.pt", records=True))
    back = torch.load(tmp_path / "ours.pt", weights_only=False)
    assert type(back.a) is np.ndarray
    assert back.a.tolist() == [0, 1, 2]
    assert type(back.best) is np.float32
    assert back.best == np.float32(0.1)
    assert torch.equal(back.t, torch.ones(2))
    assert type(back.plain) is float


def test_files_of_trainers_are_read(tmp_path):
    with stand_ins.in_place():
        made = stand_ins.objects()
        torch.save({"hyper_parameters": made, "w": torch.ones(2)}, tmp_path / "last.ckpt")
        content = (tmp_path / "last.ckpt").read_bytes()
    assert not stand_ins.PLACES.keys() & sys.modules.keys()
    read = load(tmp_path / "last.ckpt", records=True)["hyper_parameters"]
    config = read["omegaconf"]
    assert config.name == "omegaconf.dictconfig.DictConfig"
    node = config.attributes["_content"]["lr"]
    assert node.attributes["_val"] == 0.1
    assert node.attributes["_parent"] is config
    depth = config.attributes["_content"]["model"].attributes["_content"]["depth"]
    assert depth.attributes["_val"] == 3
    history = read["mmengine"]["loss"].attributes
    assert history["_log_history"].tolist() == [0.5, 0.25]
    assert read["training_args"].attributes["learning_rate"] == 5e-5
    assert read["training_args"].attributes["eval_strategy"].arguments == ("steps",)
    assert read["deepspeed"]["zero_stage"].arguments == (3,)
    assert read["fastai"]["hypers"].attributes == {"items": [{"lr": 0.1}]}
    assert not stand_ins.PLACES.keys() & sys.modules.keys()
    shown = "\n".join(describe(load(tmp_path / "last.ckpt", records=True)))
    assert "omegaconf.dictconfig.DictConfig" in shown
    assert "learning_rate: 5e-05" in shown
    save(tmp_path / "back.pt", load(tmp_path / "last.ckpt", records=True))
    with stand_ins.in_place():
        back = torch.load(tmp_path / "back.pt", weights_only=False)["hyper_parameters"]
        assert back["omegaconf"]._content["lr"]._parent is back["omegaconf"]
        assert back["mmengine"]["recent"].maxlen == 20
        assert back["training_args"] == made["training_args"]
    assert content


def test_an_object_may_know_itself(tmp_path):
    torch.save({"x": knows_itself()}, tmp_path / "torch.pt")
    record = load(tmp_path / "torch.pt", records=True)["x"]
    assert record.attributes["me"] is record
    assert record.attributes["all"][0]["again"] is record
    assert "the same as x" in "\n".join(describe({"x": record}))
    save(tmp_path / "ours.pt", {"x": record})
    back = torch.load(tmp_path / "ours.pt", weights_only=False)["x"]
    assert back.me is back.all[0]["again"] is back


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, 3, bias=False)
        self.register_buffer("scale", torch.ones(3))
        self.register_buffer("cache", torch.ones(4), persistent=False)
        self.register_parameter("unused", None)
        self.gain = torch.nn.Parameter(torch.ones(1))
        self.nothing = None


@pytest.mark.parametrize("zipped", [True, False])
def test_whole_modules_give_their_state_dict(tmp_path, zipped):
    head = torch.nn.Linear(3, 3)
    network = torch.nn.Sequential(
        Block(),
        torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.ModuleList([head, head])),
        torch.nn.ModuleDict({"lstm": torch.nn.LSTM(2, 3), "tokens": torch.nn.Embedding(4, 2)}),
        torch.nn.MultiheadAttention(4, 2),
        torch.nn.ParameterList([torch.ones(2)]),
    )
    torch.save(
        {"epoch": 3, "model": network},
        tmp_path / "last.pt",
        _use_new_zipfile_serialization=zipped,
    )
    record = load(tmp_path / "last.pt", records=True)["model"]
    state = module_state_dict(record)
    assert_same(state, dict(network.state_dict()))
    assert state["1.1.0.weight"] is state["1.1.1.weight"]
    save(tmp_path / "state.pt", state)
    network.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    with pytest.raises(TypeError, match=r"\['model'\], a whole module.*module_state_dict"):
        save(tmp_path / "back.pt", {"model": record})
    assert "1.0.running_var" in "\n".join(describe({"model": record}))


@pytest.mark.parametrize("zipped", [True, False])
def test_whole_optimizers_are_read(tmp_path, zipped):
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    path = tmp_path / "optimizer.pt"
    torch.save(optimizer, path, _use_new_zipfile_serialization=zipped)
    record = load(path, records=True)
    assert record.attributes["param_groups"][0]["momentum"] == 0.9
    (weight, entry), _ = record.attributes["state"].entries.items()
    assert_same(weight.arguments[0], network.weight)
    assert weight.arguments[0] is record.attributes["param_groups"][0]["params"][0]
    assert_same(entry["momentum_buffer"], optimizer.state[network.weight]["momentum_buffer"])
    with pytest.raises(TypeError, match="a tensor as a key is known by identity"):
        save(path, record)


def test_other_records_are_no_modules():
    with pytest.raises(TypeError, match=r"no record of a torch\.nn\.Module"):
        module_state_dict(Record(Name("argparse", "Namespace"), state={"a": 1}))
    inner = Record(Name("a", "B"), state={"_parameters": {}, "_buffers": {}, "_modules": {}})
    inner.state["_modules"]["me"] = inner
    with pytest.raises(TypeError, match=r"me\. is no record"):
        module_state_dict(inner)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_is_read(tmp_path, protocol):
    value = {
        "args": NAMESPACE,
        "set": {1, 2},
        "bytes": b"a" * 300,
        "short": b"a",
        "bytearray": bytearray(b"x"),
        "w": torch.ones(2),
        "text": "x" * 300,
    }
    torch.save(value, tmp_path / "file.pt", pickle_protocol=protocol)
    read = load(tmp_path / "file.pt", records=True)
    assert read.pop("args").attributes["lr"] == 0.1
    assert read.pop("w").tolist() == [1, 1]
    assert read == {key: value[key] for key in read}


MAKE = name("a", "B") + pickle.EMPTY_TUPLE + pickle.NEWOBJ


def put(index):
    return pickle.BINPUT + bytes([index])


def get(index):
    return pickle.BINGET + bytes([index])


DOUBLING = (
    pickle.EMPTY_TUPLE
    + put(0)
    + b"".join(get(i) * 2 + pickle.TUPLE2 + put(i + 1) for i in range(60))
)
PROGRAMS = {
    "states": (MAKE * 200 + pickle.BUILD * 199, "100 deep"),
    "arguments": (
        name("a", "B") * 200 + pickle.EMPTY_TUPLE + b"\x81\x85" * 199 + b"\x81",
        "100 deep",
    ),
    "calls_of_calls": (name("a", "B") + (pickle.EMPTY_TUPLE + pickle.REDUCE) * 200, "100 deep"),
    "hash_of_deep_tuple": (
        pickle.EMPTY_DICT + pickle.EMPTY_TUPLE + pickle.TUPLE1 * 100_000 + b"Ns",
        "the key",
    ),
    "hash_of_many": (
        DOUBLING + pickle.EMPTY_DICT + get(60) + pickle.NONE + pickle.SETITEM,
        "the key",
    ),
    "keys_of_one_hash": (
        pickle.EMPTY_DICT
        + pickle.MARK
        + b"".join(integer(i * (2**61 - 1)) + pickle.NONE for i in range(8, 300))
        + pickle.SETITEMS,
        "the key",
    ),
    "key_that_is_a_list": (pickle.EMPTY_DICT + sequence(b"]") + b"Ns", "the key"),
    "set_of_lists": (name("builtins", "set") + b"]]a\x85R", "a set of other things"),
    "two_states": (MAKE + b"}b}b", "sets attributes"),
    "state_of_name": (name("a", "B") + pickle.EMPTY_DICT + pickle.BUILD, "sets attributes"),
    "no_name": (name("a b", "c"), "by what is no name"),
    "long_name": (name("a" * 600, "c"), "by what is no name"),
    "many_records": (
        name("a", "B") + put(0) + pickle.MARK + (get(0) + b")\x81") * 26_000 + b"t\x86",
        "100100 containers",
    ),
    "many_bytes": (
        b"".join([text("x" * 9000), put(0), text("latin1"), put(1), pickle.MARK])
        + (name("_codecs", "encode") + get(0) + get(1) + b"\x86R") * 100
        + pickle.TUPLE,
        "passes more values",
    ),
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_records_keep_the_limits(tmp_path, case, monkeypatch):
    monkeypatch.setattr(pickle_stack, "MAX_CONTAINERS", 100_100)
    program, words = PROGRAMS[case]
    (tmp_path / "file.pt").write_bytes(pt_bytes(program))
    with pytest.raises(CheckpointError, match=words) as refusal:
        load(tmp_path / "file.pt", records=True)
    assert len(str(refusal.value)) < 600


def test_what_is_not_part_of_the_value_is_refused_too(tmp_path):
    torch.save(torch.nn.Parameter(torch.ones(2)), tmp_path / "file.pt")
    assert load(tmp_path / "file.pt").tolist() == [1, 1]
    tensor = torch.ones(2)
    tensor.note = NAMESPACE
    assert_refused(tmp_path / "file.pt", torch_bytes(tensor), "names 'argparse.Namespace'")
    assert load(tmp_path / "file.pt", records=True).tolist() == [1, 1]


def test_names_are_public():
    assert {"Record", "Name", "module_state_dict"} <= set(checkpoint.__all__)
