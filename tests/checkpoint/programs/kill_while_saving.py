"""Kill processes that save without pause, at random moments; look at what they leave.

Arguments: the folder, the suffix, the number of kills, the random seed. Prints how often the old
and the new value was found, and how many kills left a temporary file behind.
"""

import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from torchwise.checkpoint import load, save


def value(number):
    return {"number": number, "arrays": [np.full(20_000, number + i) for i in range(3)]}


def is_whole(found):
    number = found["number"]
    return all((array == number + i).all() for i, array in enumerate(found["arrays"]))


def save_for_ever(path, number):
    while True:
        number = 1 - number
        save(path, value(number))


def main(folder, suffix, kills, seed):
    generator = random.Random(seed)
    path = folder / f"file{suffix}"
    save(path, value(0))
    found = [0, 0]
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            save_for_ever(path, 0)
        time.sleep(generator.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        content = load(path)
        assert is_whole(content)
        found[content["number"]] += 1
    print(*found, sum(1 for name in folder.iterdir() if name != path))


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # JAX warns of every fork; nothing of it runs in the children
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
