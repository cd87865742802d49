"""Files that would take much more memory than they are long are refused before they do."""

import json
import sys

import numpy as np
import pytest
import torch
from checkpoint_tools import pt_bytes, run_program, safetensors_bytes

from torchwise.checkpoint import CheckpointError, load, save

MEGABYTE = 10**6
MANY = 3 * MEGABYTE
STRUCTURE = '{"__metadata__":{"torchwise.structure":"%s"}}'

FILES = {
    "dicts": (".pt", pt_bytes(b"(" + b"}" * MANY + b"t"), "1000000 containers"),
    "lists": (".pt", pt_bytes(b"]" * MANY + b"a" * (MANY - 1)), "1000000 containers"),
    "tuples": (".pt", pt_bytes(b")" + b"\x85" * MANY), "1000000 containers"),
    "marks": (".pt", pt_bytes(b"(" * MANY + b"t" * MANY), "100 deep"),
    "deep": (".pt", pt_bytes(b"]" * 999_999 + b"a" * 999_998), "100 deep"),
    "sets": (".pt", pt_bytes(b"(" + b"\x8f" * MANY + b"t"), "1000000 containers"),
    "memo": (".pt", pt_bytes(b"N" + b"\x94" * MEGABYTE), "read"),
    "records": (
        ".pt",
        pt_bytes(b"ca\nB\nq\0(" + b"h\0)\x81\x94" * 300_000 + b"t"),
        "1000000 containers",
    ),
    "allowed": (".pt", pt_bytes(b"(" + b"}" * 999_998 + b"t"), "read"),
    "json_lists": (
        ".safetensors",
        safetensors_bytes(STRUCTURE % f"[{'[],' * 300_000}[]]"),
        "read",
    ),
    "json_deep": (".safetensors", safetensors_bytes(STRUCTURE % ("[" * MANY)), "too deeply"),
    "json_many": (".safetensors", safetensors_bytes("{" + "[" * 13 * MEGABYTE), "12000000 objects"),
}
BOUND = 120 * MEGABYTE


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_limits_count_before_memory_is_spent(tmp_path):
    paths = []
    for case, (suffix, content, _) in FILES.items():
        paths.append(tmp_path / f"{case}{suffix}")
        paths[-1].write_bytes(content)
    found = json.loads(run_program("memory_of_loading.py", *paths))
    print(found)
    for path, (growth, outcome) in zip(paths, found, strict=True):
        assert FILES[path.stem][2] in outcome, path
        assert growth < BOUND, path


def test_what_can_be_saved_can_be_loaded(tmp_path, monkeypatch):
    for module in ("collect", "pickle_stack"):
        monkeypatch.setattr(sys.modules[f"torchwise.checkpoint.{module}"], "MAX_CONTAINERS", 20)
    arrays = [np.full(2, float(i)) for i in range(19)]  # seven containers each, and many storages
    for suffix in ("pt", "safetensors"):
        path = tmp_path / f"file.{suffix}"
        save(path, arrays)
        assert [array[0] for array in load(path)] == list(range(19))
        save(path, [[]] * 19)
        assert load(path) == [[]] * 19
        with pytest.raises(CheckpointError, match="cannot save more than 20 containers"):
            save(path, [[]] * 20)
    path = tmp_path / "torch.pt"
    torch.save([{} for _ in range(30)], path)
    with pytest.raises(CheckpointError, match="holds more than 20 containers"):
        load(path)
