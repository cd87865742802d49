import sys

import pytest
from checkpoint_tools import run_program

MEBIBYTES = 256
# Peak over bytes of arrays: arrays are read straight to where they stay.
LIMITS = {"save": 0.1, "load": 1.05, "map": 0.05, "use": 1.1}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_peak_memory_is_what_is_used(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    ratios = {}
    for action in LIMITS:
        arrays, growth = map(int, run_program("peak_memory.py", action, path, MEBIBYTES).split())
        assert arrays == MEBIBYTES * 2**20
        ratios[action] = growth / arrays
    path.unlink()
    print({action: round(ratio, 4) for action, ratio in ratios.items()})
    assert all(ratios[action] < limit for action, limit in LIMITS.items()), ratios
