"""Save or load one file in a fresh process; print bytes of arrays and growth of the peak memory.

Arguments: `save`, `load`, `map` or `use` (map and sum every array), the file, mebibytes of arrays.
The peak is that of this process alone: `ru_maxrss` would count the process that started it.
"""

import sys
from pathlib import Path

import numpy as np

from torchwise.checkpoint import load, save


def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def moments(mebibytes):
    """State of an Adagrad with 16 parameters, of the given size in all."""
    size = mebibytes * 2**20 // 4 // 16
    return {
        "state": {
            i: {"step": np.float32(3), "sum": np.full(size, i, np.float32)} for i in range(16)
        },
        "param_groups": [{"lr": 0.1, "params": list(range(16))}],
    }


def main(action, path, mebibytes):
    value = moments(mebibytes) if action == "save" else None
    before = peak()
    if action == "save":
        save(path, value)
    else:
        value = load(path, mmap=action != "load")
    sums = [entry["sum"] for entry in value["state"].values()]
    if action == "use":
        assert [array[0] for array in sums] == [array.mean() for array in sums]
    print(sum(array.nbytes for array in sums), peak() - before)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
