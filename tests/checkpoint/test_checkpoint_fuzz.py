import argparse
import collections
import datetime
import pathlib
import shutil

import numpy as np
import pytest
import safetensors.numpy
import torch
from checkpoint_tools import CHECKPOINTS, FOLDER, run_program

from torchwise.checkpoint import load, save

FILES = 10_000
SEED = 20_260_921


@pytest.fixture
def seeds(tmp_path):
    """Sound files of both formats, written by torch, by safetensors and by us."""
    for case in CHECKPOINTS:
        kept = FOLDER / "data" / f"{case}.pt"
        shutil.copy(kept, tmp_path / f"seed_torch_{case}.pt")
        save(tmp_path / f"seed_{case}.safetensors", load(kept))
    save(tmp_path / "seed_ours.pt", load(FOLDER / "data" / "training_sgd.pt"))
    model = load(FOLDER / "data" / "training_adagrad.pt")["model"]
    safetensors.numpy.save_file(model, tmp_path / "seed_flat.safetensors")
    return tmp_path


@pytest.fixture
def seeds_of_records(tmp_path):
    """Sound files of torch with objects of many classes, in its two formats and two protocols."""
    args = argparse.Namespace(
        path=pathlib.PurePosixPath("a/b"), started=datetime.datetime(2026, 1, 1), best=np.float64(1)
    )
    plain = {
        "keys": {(1, "a"): b"bytes", 1j: {1, 2}},
        "arrays": [np.arange(3), np.asfortranarray(np.ones((2, 2), np.float32))],
        "sparse": [torch.eye(3).to_sparse(), torch.eye(4).to_sparse_bsr((2, 2))],
        "quantized": torch.quantize_per_tensor(torch.ones(2), 0.1, 3, torch.quint8),
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "bits": [torch.tensor([1j]).conj(), torch.empty(2, device="meta")],
    }
    objects = [args, collections.deque([1, args], 3), collections.defaultdict(list, {1: [2]})]
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    everything = {"objects": objects, "network": network, **plain}
    torch.save(plain, tmp_path / "seed_plain.pt")
    torch.save(everything, tmp_path / "seed_objects.pt")
    torch.save(everything, tmp_path / "seed_objects_4.pt", pickle_protocol=4)
    torch.save(everything, tmp_path / "seed_objects.legacy", _use_new_zipfile_serialization=False)
    return tmp_path


def check(folder, files, least_read):
    print(f"seed {SEED}")
    read, refused, *unexpected = run_program("fuzz.py", folder, files, SEED, timeout=900).split()
    print(f"{read} read, {refused} refused")
    assert int(read) + int(refused) == files
    assert int(read) > least_read * files
    assert int(refused) > 0.5 * files
    assert unexpected == []
    assert not (folder / "canary").exists()


@pytest.mark.slow
def test_damaged_files_are_read_or_refused(seeds):
    check(seeds, FILES, 0.02)


@pytest.mark.filterwarnings("ignore")  # torch warns of the prototypes that are made here
def test_damaged_records_are_read_or_refused(seeds_of_records):
    check(seeds_of_records, 200, 0.02)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.exhaustive
def test_many_damaged_records_are_read_or_refused(seeds_of_records):
    check(seeds_of_records, FILES, 0.02)
