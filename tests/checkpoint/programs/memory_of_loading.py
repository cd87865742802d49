"""Load files, each in a process of its own; print what each did to the peak of the memory.

Arguments: the files. Prints a JSON list of pairs: the growth in bytes, and the outcome.
"""

import json
import os
import sys
import warnings
from pathlib import Path

from torchwise.checkpoint import CheckpointError, load


def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def outcome_of(path):
    try:
        load(path)
    except CheckpointError as error:
        return str(error)
    return "read"


def measured(path):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        before = peak()
        outcome = outcome_of(path)
        os.write(writing, json.dumps([peak() - before, outcome]).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # JAX warns of every fork; nothing of it runs in the children
    print(json.dumps([measured(path) for path in sys.argv[1:]]))
