"""scikit-learn's digits: 1,797 handwritten digits of 8 x 8 pixels, shipped with scikit-learn."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_digits

TEST_SIZE = 360
BATCH_SIZE = 64
_SPLIT_SEED = 0
_BRIGHTEST = 16


class Examples(NamedTuple):
    """Images (count, 64), float32 from 0 to 1, and their labels (count,), integers from 0 to 9."""

    images: np.ndarray
    labels: np.ndarray


class Digits(NamedTuple):
    """The same split at every call."""

    train: Examples
    test: Examples


def load() -> Digits:
    """Return the digits, shuffled and split."""
    bunch: Any = load_digits()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(bunch.target))
    images = (bunch.data[order] / _BRIGHTEST).astype(np.float32)
    labels = bunch.target[order]
    return Digits(
        train=Examples(images[TEST_SIZE:], labels[TEST_SIZE:]),
        test=Examples(images[:TEST_SIZE], labels[:TEST_SIZE]),
    )


def batches_per_epoch(examples: Examples) -> int:
    """Return the number of full batches; the rest of an epoch is dropped."""
    return len(examples.labels) // BATCH_SIZE


def epochs_of_batches(examples: Examples, epochs: int, seed: int) -> Iterator[list[Examples]]:
    """Yield the minibatches of one epoch after the other, shuffled anew for each."""
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        order = generator.permutation(len(examples.labels))
        chosen = order[: batches_per_epoch(examples) * BATCH_SIZE].reshape(-1, BATCH_SIZE)
        yield [Examples(examples.images[rows], examples.labels[rows]) for rows in chosen]
