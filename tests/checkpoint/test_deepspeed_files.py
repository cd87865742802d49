"""Folders that DeepSpeed wrote, against what its processes had in memory.

`tests/trainers/make_deepspeed.py` made them.
"""

import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from checkpoint_tools import FOLDER, assert_same

import torchwise
from torchwise import cli
from torchwise.checkpoint import CheckpointError, load, save

DATA = FOLDER / "data" / "trainers"
MODEL = "mp_rank_00_model_states.pt"
MODEL_1 = "zero_pp_rank_1_mp_rank_00_model_states.pt"
OPTIMIZER = "bf16_zero_pp_rank_{}_mp_rank_00_optim_states.pt"
NAMES = [
    *("seen", "scale", "inner.weight", "inner.bias", "norm.weight", "norm.bias"),
    *("frozen.weight", "out.weight", "tied.weight"),
]
GROUPS = [["inner.weight", "out.weight"], ["inner.bias", "norm.weight", "norm.bias"]]


@pytest.fixture
def copied(tmp_path):
    """Copy the folder of a stage; return that with the files."""

    def copy(stage):
        return shutil.copytree(DATA / f"deepspeed{stage}", tmp_path / "run") / "global_step3"

    return copy


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert len(str(caught.value)) < 700 + len(str(path))
    return str(caught.value)


def truth(stage):
    """What the processes had: by kind, then by name."""
    kinds = {}
    for key, value in load(DATA / f"deepspeed{stage}" / "truth.safetensors").items():
        kind, _, name = key.partition(".")
        kinds.setdefault(kind, {})[name] = value
    return kinds


def assert_bits(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (value.dtype, value.shape)
        assert ours[name].tobytes() == value.tobytes()
        assert not ours[name].flags.writeable


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_parts_become_whole(stage, mmap):
    read, true = load(DATA / f"deepspeed{stage}", mmap=mmap), truth(stage)
    assert list(read)[:3] == ["model", "optimizer", "master_weights"]
    assert read["epoch"] == read["global_steps"] == 3
    assert_bits(read["master_weights"], true["fp32"])
    model = dict(read["model"])
    assert list(model) == NAMES
    assert model["tied.weight"] is model["out.weight"]
    if stage == 1:  # where DeepSpeed's own script leaves out what is frozen
        module = load(DATA / "deepspeed1" / "global_step3" / MODEL)["module"]
        frozen = {"frozen.weight": model.pop("frozen.weight")}
        assert_bits(frozen, {"frozen.weight": module["frozen.weight"]})
    assert_bits(model, true["model"])
    state = read["optimizer"]["state"]
    for kind in ("exp_avg", "exp_avg_sq"):
        assert_bits({name: values[kind] for name, values in state.items()}, true[kind])
    assert all(values["step"] == 3 for values in state.values())
    assert [group["params"] for group in read["optimizer"]["param_groups"]] == GROUPS
    assert [g["weight_decay"] for g in read["optimizer"]["param_groups"]] == [0.1, 0.0]


def test_the_optimizer_is_taken_by_name():
    read, true = load(DATA / "deepspeed3"), truth(3)
    transform, state = torchwise.from_state_dict(read["optimizer"], read["master_weights"])
    back = torchwise.to_state_dict(transform, state, read["master_weights"])
    assert [group["params"] for group in back["param_groups"]] == GROUPS
    for kind in ("exp_avg", "exp_avg_sq"):
        for name, value in true[kind].items():
            np.testing.assert_array_equal(back["state"][name][kind], value)


def test_without_zero():
    read = load(DATA / "deepspeed0")
    file = torch.load(DATA / "deepspeed0" / "global_step3" / MODEL, weights_only=True)
    assert_same(read["model"], file["module"])
    assert_same(read["optimizer"], file["optimizer"])
    assert read["epoch"] == 3
    assert "master_weights" not in read


def test_in_a_folder_of_the_hf_trainer(copied):
    outer = copied(2).parent
    (outer / "trainer_state.json").write_text(json.dumps({"global_step": 3}))
    save(outer / "scheduler.pt", {"last_epoch": 3})
    save(outer / "model.safetensors", {"out.weight": np.zeros(1)})  # a copy in 16 bits
    read = load(outer)
    assert read["trainer_state"] == {"global_step": 3}
    assert read["scheduler"] == {"last_epoch": 3}
    assert_bits(read["master_weights"], truth(2)["fp32"])
    assert list(read["model"]) == NAMES


def test_inspected_and_converted(tmp_path, capsys):
    assert cli.main(["inspect", str(DATA / "deepspeed3")]) == 0
    out = capsys.readouterr().out
    assert "group 0: AdamW, 2 parameters" in out
    assert "frozen.weight" in out
    for name in ("all.pt", "all.safetensors"):
        assert cli.main(["convert", str(DATA / "deepspeed3"), str(tmp_path / name)]) == 0
        assert_bits(load(tmp_path / name)["master_weights"], truth(3)["fp32"])
    theirs = torch.load(tmp_path / "all.pt", weights_only=True)["optimizer"]["state"]
    steps = [values["step"] for values in theirs.values()]
    steps[0] += 1  # as torch does, in place
    assert [step.item() for step in steps] == [4, 3, 3, 3, 3]


def test_latest(copied):
    outer = copied(1).parent
    for tag, words in (
        ("global_step4", "/latest: names 'global_step4', which is not in the folder"),
        ("../run", "/latest: names '../run', which is not a folder beside it"),
        ("", "/latest: names '', which is not a folder"),
    ):
        (outer / "latest").write_text(tag)
        assert words in refusal(outer)
    (outer / "latest").unlink()
    assert "the last is 'global_step3', load that one" in refusal(outer)
    (outer / "latest_universal").write_text("global_step3_universal")
    assert "is a universal checkpoint of DeepSpeed" in refusal(outer)


@pytest.mark.parametrize(
    ("stage", "missing", "words"),
    [
        (1, OPTIMIZER.format(0), "has no optim_states.pt of process 0, of 2; copy all files"),
        (2, OPTIMIZER.format(1), "optim_states.pt: is of 2 processes, and the folder has files"),
        (3, OPTIMIZER.format(1), "has no optim_states.pt of process 1, of 2"),
        (3, MODEL_1, "has no model_states.pt of process 1, of 2"),
        (2, MODEL, "has no model_states.pt of any process"),
    ],
)
def test_files_that_are_missing(copied, stage, missing, words):
    folder = copied(stage)
    (folder / missing).unlink()
    assert words in refusal(folder)


def test_all_parts_are_missing(copied):
    folder = copied(2)
    for rank in (0, 1):
        (folder / OPTIMIZER.format(rank)).unlink()
    assert "has no optim_states.pt of any process" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mp_rank_01_model_states.pt", "tensor or pipeline parallelism"),
        ("zero_pp_rank_0_mp_rank_01_optim_states.pt", "tensor or pipeline parallelism"),
        ("layer_00-model_00-model_states.pt", "is of a pipeline"),
        ("layer_0_expert_1_mp_rank_00_model_states.pt", "has experts"),
        ("expp_rank_0_mp_rank_00_optim_states.pt", "has experts"),
        ("offloaded_tensors", "offloaded to NVMe"),
        ("zero", "is a universal checkpoint of DeepSpeed"),
        ("zero_pp_rank_0_mp_rank_00_optim_states.pt", "which are of two checkpoints"),
        ("zero_pp_rank_0_mp_rank_00_model_states.pt", "which are of two checkpoints"),
        ("zero_pp_rank_999999999999999999999_mp_rank_00_optim_states.pt", "of process 2, of 1000"),
    ],
)
def test_kinds_that_the_files_say_too_little_of(copied, name, words):
    folder = copied(2)
    (folder / name).write_bytes(b"")
    text = refusal(folder)
    assert words in text
    assert name in text or "process 2" in text
    assert "; " in text  # and what to do


def edit(file, change):
    """Write a file anew, after a change of what is in it."""
    value = load(file, records=True)
    change(value)
    save(file, value)


def inner(value):
    return value["optimizer_state_dict"]


def set_at(*path, to):
    def change(value):
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = to(value[path[-1]]) if callable(to) else to

    return change


def swapped(groups):
    first, second, third = groups[1]
    return [groups[0], {name: groups[1][name] for name in (second, first, third)}]


STATE = ("optimizer_state_dict", "base_optimizer_state", "state", 0)
WEIGHTS = ("optimizer_state_dict", "single_partition_of_fp32_groups", 0)
FLAT = ("optimizer_state_dict", "fp32_flat_groups", 1)


@pytest.mark.parametrize(
    ("stage", "file", "change", "words"),
    [
        # Equal shapes in another order: sizes cannot show it, the copy in 16 bits does.
        (2, MODEL, set_at("param_shapes", to=swapped), "other fp32 weights of 'inner.bias' than"),
        (2, MODEL, set_at("param_shapes", to=lambda x: x[:1]), "has other groups of parameters"),
        (2, MODEL, set_at("param_shapes", 0, "out.weight", to=(5, 3)), "of two shapes"),
        (2, MODEL, set_at("param_shapes", 0, "out.weight", to=(3, 6)), "not of one checkpoint"),
        (2, MODEL, set_at("param_shapes", 0, "out.weight", to=(-3, -5)), "where the shape of"),
        (2, MODEL, set_at("param_shapes", to=None), "save it with a newer DeepSpeed"),
        (2, MODEL, set_at("param_shapes", 1, "out.weight", to=(5,)), "one parameter in two groups"),
        (2, MODEL, set_at("shared_params", "tied.weight", to="in"), "'tied.weight' is shared with"),
        (2, MODEL, set_at("module", "tied.weight", to=lambda x: 2 * x), "weights of 'tied.weight'"),
        (2, MODEL, set_at("mp_world_size", to=2), "tensor or pipeline parallelism"),
        (2, MODEL, set_at("module", to=None), "has no 'module' with tensors by name"),
        (2, MODEL, lambda x: x.update(num_experts=[4]), "has experts"),
        (2, MODEL, lambda x: x.update(model=1), "has 'model' among the values"),
        (2, MODEL, lambda x: x["module"].pop("norm.bias"), "does not say what 'norm.bias' is"),
        (3, MODEL_1, set_at("param_shapes", to=swapped), "other parameters than the file of"),
        (3, MODEL_1, set_at("frozen_param_fragments", to={}), "no part of 'frozen.weight'"),
        (3, OPTIMIZER, set_at(*FLAT, to=lambda x: x[:8]), "where each should have 9"),
        (2, OPTIMIZER, set_at(*WEIGHTS, to=lambda x: x[:12]), "has parts of 16, 12 elements"),
        (2, OPTIMIZER, set_at(*WEIGHTS, to=lambda x: np.tile(x, 2)), "has parts of 16, 28 elem"),
        (2, OPTIMIZER, set_at(*WEIGHTS, to=None), "where DeepSpeed has a ndarray"),
        (
            2,
            OPTIMIZER,
            set_at(*WEIGHTS, to=lambda x: x.astype("f8")),
            "type float64 from process 1",
        ),
        (2, OPTIMIZER, set_at(*STATE, "exp_avg", to=lambda x: x[:13]), "'exp_avg' of shape (13,)"),
        (2, OPTIMIZER, set_at(*STATE, "exp_avg", to=lambda x: np.tile(x, 2)), "of shape (32,)"),
        (2, OPTIMIZER, set_at(*STATE, "step", to=np.float32(4)), "a state 'step' of the optimizer"),
        (2, OPTIMIZER, set_at(*STATE[:-1], to={}), "has other states of the optimizer from each"),
        (2, OPTIMIZER, set_at(*STATE[:-2], to=[]), "save it without 'elastic_checkpoint'"),
        (2, OPTIMIZER, lambda x: inner(x).update(partition_count=[2, 1]), "is of 1 processes"),
        (2, OPTIMIZER, lambda x: inner(x).update(partition_count=[]), "is of None processes"),
        (2, OPTIMIZER, lambda x: inner(x).update(zero_stage=3), "says ZeRO stage 3, and"),
        (2, OPTIMIZER, lambda x: inner(x).clear(), "neither DeepSpeed's fp32 weights of stages"),
        (
            *(2, OPTIMIZER, lambda x: inner(x)["param_alignment_paddings"][0].append(1)),
            "has other groups of parameters from process 1",
        ),
    ],
)
def test_parts_that_do_not_belong_together(copied, stage, file, change, words):
    folder = copied(stage)
    edit(folder / file.format(1), change)
    assert words in refusal(folder)


def test_paddings_between_parameters(copied):
    folder = copied(2)
    for rank in (0, 1):

        def change(value, rank=rank):
            root = inner(value)
            root["param_alignment_paddings"][1] = [3, 3, 0]  # 5 + 3, 5 + 3, 5; then 24 in two parts
            weights = truth(2)["fp32"]
            for tensors, index in (
                (weights, None),
                *((truth(2)[kind], kind) for kind in ("exp_avg", "exp_avg_sq")),
            ):
                group = [tensors[name] for name in GROUPS[1]]
                flat = np.concatenate([np.pad(x, (0, 3), constant_values=9) for x in group])
                part = flat[12 * rank : 12 * rank + 12]
                if index is None:
                    root["single_partition_of_fp32_groups"][1] = part[: 9 if rank else 12]
                else:
                    root["base_optimizer_state"]["state"][1][index] = part

        edit(folder / OPTIMIZER.format(rank), change)
    read, true = load(folder), truth(2)
    assert_bits(read["master_weights"], true["fp32"])
    for kind in ("exp_avg", "exp_avg_sq"):
        state = read["optimizer"]["state"]
        assert_bits({name: values[kind] for name, values in state.items()}, true[kind])


def test_one_part_in_many_places(copied):
    """A few bytes must not stand for much memory."""
    folder = copied(2)

    def change(value):
        state = inner(value)["base_optimizer_state"]["state"][0]
        state |= dict.fromkeys(map(str, range(100)), np.zeros(10_000, np.float32))

    for rank in (0, 1):
        edit(folder / OPTIMIZER.format(rank), change)
    assert "has several tensors in the same bytes" in refusal(folder)


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_no_code_is_run(tmp_path, copied):
    folder = copied(2)
    with zipfile.ZipFile(folder / OPTIMIZER.format(0), "w") as file:
        file.writestr("a/data.pkl", pickle.dumps(Evil(tmp_path / "made"), 2))
        file.writestr("a/version", "3")
    assert "where DeepSpeed has a dict" in refusal(folder)
    assert not (tmp_path / "made").exists()


def test_any_damage_is_one_error(copied):
    folder = copied(3)
    file = folder / OPTIMIZER.format(1)
    described = file.read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        broken = bytearray(described)
        for place in generator.integers(0, len(broken), 3):
            broken[place] = generator.integers(0, 256)
        file.write_bytes(broken)
        try:
            load(folder)
        except CheckpointError:
            refused += 1
    assert refused > 30


WRONG = [None, [], {}, (), -1, 2**70, "x", 1.5, np.ones(3, np.float32), np.ones((2, 2)), [[1]]]


def places(value, path=()):
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from places(value[key], (*path, key))


@pytest.mark.parametrize(
    ("stage", "file"),
    [(2, MODEL), (3, MODEL_1), (2, OPTIMIZER.format(0)), (3, OPTIMIZER.format(1))],
)
def test_any_other_value_is_one_error(copied, stage, file):
    path = copied(stage) / file
    shutil.copy(path, path.with_name("original"))
    generator = np.random.default_rng(stage)
    found = [place for place in places(load(path, records=True)) if "ds_config" not in place]
    refused = 0
    for index in generator.permutation(len(found))[:25]:
        shutil.copy(path.with_name("original"), path)
        edit(path, set_at(*found[index], to=WRONG[generator.integers(len(WRONG))]))
        try:
            load(path.parent)
        except CheckpointError:
            refused += 1
    assert refused > 3
