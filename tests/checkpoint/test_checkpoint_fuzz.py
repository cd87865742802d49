import shutil

import pytest
import safetensors.numpy
from checkpoint_tools import CHECKPOINTS, FOLDER, run_program

from torchwise.checkpoint import load, save

pytestmark = pytest.mark.slow

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


def test_damaged_files_are_read_or_refused(seeds):
    print(f"seed {SEED}")
    read, refused, *unexpected = run_program("fuzz.py", seeds, FILES, SEED).split()
    assert int(read) + int(refused) == FILES
    assert int(read) > 0.02 * FILES
    assert int(refused) > 0.5 * FILES
    assert unexpected == []
    assert not (seeds / "canary").exists()
