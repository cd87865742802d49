"""Files and folders that trainers wrote, against what torch and safetensors read of them."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from checkpoint_tools import FOLDER, assert_equal, assert_same, safetensors_bytes
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from torchwise import cli
from torchwise.checkpoint import CheckpointError, load, metadata, save

DATA = FOLDER / "data" / "trainers"


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        load(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert len(text) < 500 + len(str(path))
    return text[len(str(path)) :]


def plain(path):
    return torch.load(path, weights_only=True)


def tensors(path):
    """What safetensors reads, in the order of the file's header."""
    with safetensors.safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.offset_keys()}


@pytest.fixture
def copied(tmp_path):
    """Copy a folder of the data, to be damaged."""

    def copy(name):
        return shutil.copytree(DATA / name, tmp_path / name)

    return copy


@pytest.mark.parametrize("mmap", [False, True])
def test_a_folder_of_the_hf_trainer(mmap):
    folder = DATA / "hf_trainer"
    read = load(folder, mmap=mmap)
    assert list(read) == ["model", "optimizer", "scheduler", "trainer_state", "config"]
    assert_same(read["model"], tensors(folder / "model.safetensors"))
    assert_same(read["optimizer"], plain(folder / "optimizer.pt"))
    assert_same(read["scheduler"], plain(folder / "scheduler.pt"))
    assert read["trainer_state"] == json.loads((folder / "trainer_state.json").read_text())
    assert read["trainer_state"]["global_step"] == 2
    assert read["config"]["n_embd"] == 4
    assert_equal(read["model"], load(folder / "model.safetensors"))


def test_tensors_in_shards():
    index = DATA / "hf_shards" / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    files = {file: safetensors.torch.load_file(index.parent / file) for file in places.values()}
    assert len(files) == 3
    read = load(index)
    assert_same(read, {name: files[file][name] for name, file in places.items()})
    assert_equal(load(index.parent)["model"], read)


def test_a_folder_of_accelerate(copied):
    folder = copied("accelerate")
    shutil.copy(folder / "model.safetensors", folder / "model_1.safetensors")
    shutil.copy(folder / "optimizer.bin", folder / "optimizer_1.bin")
    shutil.copy(folder / "optimizer.bin", folder / "custom_checkpoint_0.pkl")
    read = load(folder)
    assert list(read) == [
        *("model", "model_1", "optimizer", "optimizer_1", "scheduler", "custom_checkpoint_0")
    ]
    assert_same(read["optimizer"], plain(folder / "optimizer.bin"))
    assert_equal(read["optimizer_1"], read["optimizer"])
    assert_equal(read["model_1"], read["model"])
    # Old folders have torch's file; where there are both, transformers reads safetensors.
    save(folder / "pytorch_model.bin", {"0.weight": np.zeros(1)})
    assert_equal(load(folder)["model"], read["model"])
    (folder / "model.safetensors").unlink()
    assert_equal(load(folder)["model"], {"0.weight": np.zeros(1)})


def test_a_file_of_lightning_and_back(tmp_path):
    theirs = plain(DATA / "lightning.ckpt")
    read = load(DATA / "lightning.ckpt")
    assert_same(read, theirs)
    assert {"state_dict", "optimizer_states", "lr_schedulers", "loops"} <= read.keys()
    save(tmp_path / "last.ckpt", read)
    assert_same(read, plain(tmp_path / "last.ckpt"))


@pytest.mark.parametrize("mmap", [False, True])
def test_a_folder_of_torch_distributed(tmp_path, mmap):
    dcp_to_torch_save(DATA / "dcp", tmp_path / "theirs.pt")
    theirs = plain(tmp_path / "theirs.pt")
    read = load(DATA / "dcp", mmap=mmap)
    assert_same(read, theirs)
    assert read["epoch"] == 3
    assert read["history"][1] == {"note": "text"}
    assert read["optim"]["param_groups"][0]["params"] == ["0.weight", "1.weight"]
    assert read["model"]["0.weight"].shape == (5, 3)  # three rows of one process, two of the other


def test_folders_of_torch_distributed_that_are_damaged(copied):
    folder = copied("dcp")
    described = (folder / ".metadata").read_bytes()
    stored = (folder / "__1_0.distcp").read_bytes()
    (folder / "__1_0.distcp").unlink()
    assert "/.metadata: names '__1_0.distcp', which is not in the folder" in refusal(folder)
    (folder / "__1_0.distcp").write_bytes(stored[:-100])
    assert refusal(folder).startswith("/__1_0.distcp: at ['")
    (folder / "__1_0.distcp").write_bytes(stored)
    for old, new, words in (
        (b"float32", b"float16", "is not what .metadata says of it"),
        (b"__1_0.distcp", b"../_0.distcp", "which is not a file beside it"),
        (b"__1_0.distcp", b"__0_0.distcp", "two values in the same bytes|truncated"),
        (b"MetadataIndex", b"MetadataInder", "'torch.distributed.checkpoint.metadata.MetadataInd"),
        (b"state_dict_metadata", b"state_dict_metadatb", "does not say what is saved where"),
        (b"offsets", b"offsetz", "sizes should be"),
    ):
        (folder / ".metadata").write_bytes(described.replace(old, new))
        assert any(word in refusal(folder) for word in words.split("|")), words
    (folder / ".metadata").write_bytes(described[:-40])
    assert refusal(folder).startswith("/.metadata: ")


def test_any_damage_to_metadata_is_one_error(copied):
    folder = copied("dcp")
    described = (folder / ".metadata").read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        broken = bytearray(described)
        for place in generator.integers(0, len(broken), 3):
            broken[place] = generator.integers(0, 256)
        (folder / ".metadata").write_bytes(broken)
        try:
            load(folder)
        except CheckpointError:
            refused += 1
    assert refused > 150


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_metadata_runs_no_code(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".metadata").write_bytes(pickle.dumps(Evil(tmp_path / "made"), 4))
    assert "mkdir' where a Metadata of torch should be" in refusal(tmp_path / "run")
    assert not (tmp_path / "made").exists()


SHARD = '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ("[", "is not JSON"),
        ("[" * 300 + "]" * 300, "nests containers more than 100 deep"),
        ("{}", "is no index of shards: it has no 'weight_map'"),
        ('{"weight_map": {"a": 1}}', "is no index of shards"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "which is not a file beside it"),
        ('{"weight_map": {"a": "x.safetensors", "b": "x.safetensors"}}', "'b' is not in 'x.safe"),
        ('{"weight_map": {}}', ""),
        ('{"weight_map": {"a": "y.safetensors"}}', "y.safetensors"),
    ],
)
def test_an_index_that_lies(tmp_path, index, words):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(index)
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes(SHARD, bytes(4)))
    if not words:
        assert load(path) == {}
    elif words == "y.safetensors":
        with pytest.raises(FileNotFoundError, match=words):
            load(path)
    else:
        assert words in refusal(path)


def test_a_shard_with_more_than_its_index_says(tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    shard = {"a": np.ones(1, np.float32), "b": np.ones(1, np.float32)}
    save(tmp_path / "x.safetensors", shard)
    path.write_text('{"weight_map": {"a": "x.safetensors"}}')
    assert "'x.safetensors' has 'b', which the index does not say" in refusal(path)


def test_folders_that_are_no_checkpoint(tmp_path):
    assert "it has no files" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "epoch_1.pt").write_bytes(b"")
    assert "it has 'config.json', 'epoch_1.pt'; load one of them" in refusal(tmp_path)
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert "is a folder of checkpoints; the last is 'checkpoint-10'" in refusal(tmp_path)


NAMES = [
    *("a.pt", "a.pth", "last.ckpt", "optimizer.bin", "checkpoint.pth.tar", "custom_0.pkl", "A.CKPT")
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_trainers_are_written(tmp_path, name):
    save(tmp_path / name, {"a": np.arange(3.0), "epoch": 2})
    assert plain(tmp_path / name)["a"].tolist() == [0, 1, 2]
    assert load(tmp_path / name)["epoch"] == 2


def test_other_names_need_the_format(tmp_path):
    value = {"a": np.arange(3.0)}
    for name in ("last", "run.npz", "model.safetensor"):
        with pytest.raises(CheckpointError, match=r"the suffix is not one of .*; pass format='tor"):
            save(tmp_path / name, value)
        save(tmp_path / name, value, format="torch")
        assert plain(tmp_path / name)["a"].tolist() == [0, 1, 2]
        save(tmp_path / name, value, format="safetensors")
        assert safetensors.torch.load_file(tmp_path / name)["a"].tolist() == [0, 1, 2]
        assert_equal(load(tmp_path / name), value)
    with pytest.raises(CheckpointError, match="format is 'pt', but must be 'torch' or 'safet"):
        save(tmp_path / "a.pt", value, format="pt")


def texts(path):
    with safetensors.safe_open(path, "np") as file:
        return {k: v for k, v in file.metadata().items() if k != "torchwise.structure"}


def test_metadata_is_kept(tmp_path, capsys):
    theirs, there, back = (tmp_path / name for name in ("a.safetensors", "a.ckpt", "b.safetensors"))
    value = {"a": torch.arange(3.0)}
    for given in ({"run": "42 ä\x1b", "format": "pt"}, {"format": "mlx"}):
        safetensors.torch.save_file(value, theirs, metadata=given)
        assert metadata(theirs) == given
        for source, target in ((theirs, there), (there, back)):
            assert cli.main(["convert", str(source), str(target)]) == 0
        assert metadata(back) == texts(back) == given
        assert_same(load(there), plain(there))
        assert_same(load(back), value)
        save(back, load(theirs), metadata=metadata(theirs))
        assert texts(back) == given
    capsys.readouterr()
    assert cli.main(["inspect", str(back)]) == 0
    assert capsys.readouterr().out.startswith("metadata.format: 'mlx'\n")


def test_metadata_without_being_asked(tmp_path):
    save(tmp_path / "a.safetensors", {"a": np.ones(2)})
    assert texts(tmp_path / "a.safetensors") == {"format": "pt"}
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    assert metadata(tmp_path / "a.pt") == {}
    assert metadata(DATA / "hf_trainer") == {}


def test_metadata_that_cannot_be_kept(tmp_path):
    for given, error, words in (
        ({"run": 42}, TypeError, "metadata has 'run': 42; it holds strings"),
        ({"run": "\ud800"}, CheckpointError, "which UTF-8 cannot write"),
        ({"torchwise.structure": "[]"}, CheckpointError, "which is written by itself"),
    ):
        for name in ("a.pt", "a.safetensors"):
            with pytest.raises(error, match=words):
                save(tmp_path / name, {}, metadata=given)
    assert not list(tmp_path.iterdir())


def test_folders_are_inspected_and_converted(tmp_path, capsys):
    assert cli.main(["inspect", str(DATA / "hf_trainer")]) == 0
    out = capsys.readouterr().out
    assert "optimizer: optimizer, 2 groups" in out
    assert "transformer.wte.weight" in out
    assert cli.main(["convert", str(DATA / "dcp"), str(tmp_path / "all.pt")]) == 0
    assert_same(load(DATA / "dcp"), plain(tmp_path / "all.pt"))
