"""One training loop for every way of taking a step."""

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol, SupportsFloat

import numpy as np

from torchwise.demo.data import Digits, epochs_of_batches
from torchwise.demo.network import ParamsOnHost


class Trainer(Protocol):
    """A network and its optimizer: whatever can take a step."""

    def step(self, images: np.ndarray, labels: np.ndarray) -> SupportsFloat:
        """Take one step, perhaps in the background; return the loss before it."""
        ...

    def params(self) -> ParamsOnHost:
        """Return a copy of the parameters."""
        ...

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return the most likely digit of each image."""
        ...


class History(NamedTuple):
    """What a training leaves behind.

    Attributes:
        losses: the mean training loss of each epoch.
        params: the parameters after each epoch.
        seconds: the mean duration of a step in each epoch: forward, backward and optimizer.
        accuracy: the share of test images that are recognized at the end.
    """

    losses: list[float]
    params: list[ParamsOnHost]
    seconds: list[float]
    accuracy: float


def train(
    trainer: Trainer, digits: Digits, epochs: int, seed: int, advance: Callable[[int], object]
) -> History:
    """Train on the batches that `seed` draws; report each epoch to `advance`."""
    losses, params, seconds = [], [], []
    for batches in epochs_of_batches(digits.train, epochs, seed):
        start = time.perf_counter()
        pending = [trainer.step(batch.images, batch.labels) for batch in batches]
        losses.append(float(np.mean([float(loss) for loss in pending])))  # waits for all steps
        seconds.append((time.perf_counter() - start) / len(batches))
        advance(len(batches))
        params.append(trainer.params())
    correct = trainer.predict(digits.test.images) == digits.test.labels
    return History(losses, params, seconds, float(np.mean(correct)))


def differences(history: History, other: History) -> list[float]:
    """Return the largest absolute difference of any parameter, after each epoch."""
    return [
        max(float(np.max(np.abs(ours[name] - theirs[name]))) for name in ours)
        for ours, theirs in zip(history.params, other.params, strict=True)
    ]
