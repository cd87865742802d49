"""Load many damaged checkpoints; print how many were read and how many refused.

Arguments: the folder of sound seed files and of the work, the number of files, the random seed.
Memory is limited, and whatever the interpreter does beside opening and mapping a file is reported.
"""

import codecs
import importlib
import json
import resource
import sys
from pathlib import Path

import numpy as np
from mutations import mutate

from torchwise.checkpoint import CheckpointError, Record, load
from torchwise.comparison import Limits, compare, leaves
from torchwise.inspection import describe, describe_as_json

HEADROOM = 48 * 2**20
EXPECTED_EVENTS = {"open", "mmap.__new__", "builtins.id"}


class Watch:
    """Collects what the interpreter reports to its audit hooks while files are loaded."""

    def __init__(self):
        self.active = False
        self.events = set()
        sys.addaudithook(self.hear)

    def hear(self, event, arguments):
        if self.active and event not in EXPECTED_EVENTS:
            self.events.add(f"{event}:{arguments[:1]!r}".replace(" ", ""))

    def __enter__(self):
        self.active = True

    def __exit__(self, *_):
        self.active = False


def limit_memory():
    """Let the address space grow by no more than a few times the largest file."""
    status = Path("/proc/self/status").read_text()
    size = int(status.split("VmSize:")[1].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (size + HEADROOM, resource.RLIM_INFINITY))


def touch(value):
    """Read a corner of every array, and walk the whole value."""
    if isinstance(value, np.ndarray):
        value[tuple(slice(-1, None) for _ in value.shape)].tobytes()
    elif isinstance(value, dict):
        for item in value.values():
            touch(item)
    elif isinstance(value, list | tuple):
        for item in value:
            touch(item)
    elif isinstance(value, Record):
        assert len(repr(value)) < 500
        assert type(value.attributes) is dict


def attempt(path, watch, mmap, records):
    try:
        with watch:
            value = load(path, mmap=mmap, records=records)
    except CheckpointError as error:
        if "more memory" in str(error):
            raise
        return "refused"
    touch(value)
    for line in describe(value):
        assert len(line) < 2000
    json.loads("".join(describe_as_json(value, path.name)))
    check_comparison(value)
    return "read"


def check_comparison(value):
    """Whatever is in a file, it is equal to itself."""
    try:
        found = leaves.leaves(value)
    except ValueError:  # more than it names
        return
    itself = compare(found, found, Limits())
    assert not itself.values
    assert not any(one.distance.is_known for one in itself.tensors)


def main(folder, count, seed):
    generator = np.random.default_rng(seed)
    seeds = [(path.suffix, path.read_bytes()) for path in sorted(folder.glob("seed*"))]
    codecs.lookup("cp437")  # old zip names; Python imports its codecs at their first use
    importlib.import_module("torchwise.public")  # JAX, too: memory is for the files
    leaves.MAX_LEAVES = 10_000
    watch = Watch()
    limit_memory()
    outcomes = {"read": 0, "refused": 0}
    for index in range(count):
        suffix, content = seeds[index % len(seeds)]
        path = folder / f"mutant{suffix}"
        path.write_bytes(mutate(generator, suffix, content, folder / "canary"))
        try:
            turn = index // len(seeds)
            outcomes[attempt(path, watch, bool(turn % 2), turn % 4 < 3)] += 1
        except BaseException:
            print(f"failed at file {index} of seed {seed}")
            raise
    print(outcomes["read"], outcomes["refused"], *sorted(watch.events))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
