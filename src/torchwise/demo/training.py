"""A small network for real digits, trained with torchwise: the code to copy.

The digits are scikit-learn's, 1,797 images of 8 x 8 pixels. The network is a multilayer perceptron
in plain JAX. Its parameters are a flat dictionary as torch's `state_dict()`: weights are
(outputs, inputs).
"""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, SupportsFloat, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import torchwise
from torchwise import optim

HYPERPARAMETERS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
    "adagrad": {"lr": 0.05},
}
TRANSFORMS = {
    "sgd": torchwise.sgd(**HYPERPARAMETERS["sgd"]),
    "adagrad": torchwise.adagrad(**HYPERPARAMETERS["adagrad"]),
}
SIZES = {"hidden": (64, 128), "output": (128, 10)}  # layer -> (inputs, outputs)
TEST_SIZE = 360
BATCH_SIZE = 64

Params: TypeAlias = dict[str, jax.Array]
ParamsOnHost: TypeAlias = dict[str, np.ndarray]


def initialize(seed: int) -> ParamsOnHost:
    """Return weights and biases as `torch.nn.Linear` draws them, from numpy's generator."""
    generator = np.random.default_rng(seed)
    params = {}
    for layer, (inputs, outputs) in SIZES.items():
        bound = inputs**-0.5
        for name, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
            values = generator.uniform(-bound, bound, shape)
            params[f"{layer}.{name}"] = values.astype(np.float32)
    return params


def logits(params: Params, images: jax.Array) -> jax.Array:
    """Return the scores of the ten digits for images (count, 64)."""
    # tanh is smooth: a rectifier would blow rounding up wherever its input rounds across zero
    hidden = jnp.tanh(_linear(params, "hidden", images))
    return _linear(params, "output", hidden)


def loss(params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross entropy in nats."""
    scores = logits(params, images)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, labels))


def _linear(params: Params, layer: str, x: jax.Array) -> jax.Array:
    return x @ params[f"{layer}.weight"].T + params[f"{layer}.bias"]


class Trainer(Protocol):
    """A network and its optimizer: whatever can take a step."""

    def step(self, images: np.ndarray, labels: np.ndarray) -> SupportsFloat:
        """Take one step, perhaps in the background; return the loss before it."""
        ...

    def params(self) -> ParamsOnHost:
        """Return a copy of the parameters."""
        ...


class Functional:
    """The pure functions of torchwise, with loss, gradients and step in one compiled program."""

    def __init__(self, name: str, params: ParamsOnHost) -> None:
        transform = TRANSFORMS[name]
        self._params = jax.tree.map(jnp.array, params)
        self._state = transform.init(self._params)

        # Donated: the old parameters and the old state are overwritten in place.
        @functools.partial(jax.jit, donate_argnums=(0, 1))
        def train_step(params: Params, state: Any, images: jax.Array, labels: jax.Array) -> Any:
            value, grads = jax.value_and_grad(loss)(params, images, labels)
            params, state = transform.step(grads, state, params)
            return params, state, value

        self._train_step = train_step

    def step(self, images: np.ndarray, labels: np.ndarray) -> SupportsFloat:
        self._params, self._state, value = self._train_step(
            self._params, self._state, images, labels
        )
        return value

    def params(self) -> ParamsOnHost:
        return {name: np.array(param) for name, param in self._params.items()}


class Stateful:
    """`torchwise.optim`: the optimizer holds parameters and state, as torch's does."""

    def __init__(self, name: str, params: ParamsOnHost) -> None:
        optimizer = {"sgd": optim.SGD, "adagrad": optim.Adagrad}[name]
        self._optimizer = optimizer(jax.tree.map(jnp.array, params), **HYPERPARAMETERS[name])

    def step(self, images: np.ndarray, labels: np.ndarray) -> SupportsFloat:
        return self._optimizer.train_step(loss, images, labels)

    def params(self) -> ParamsOnHost:
        return {name: np.array(param) for name, param in self._optimizer.params.items()}


class Examples(NamedTuple):
    """Images (count, 64), float32 from 0 to 1, and their labels (count,), integers from 0 to 9."""

    images: np.ndarray
    labels: np.ndarray


class Digits(NamedTuple):
    """The digits that are learned, and those that show what has been learned."""

    train: Examples
    test: Examples


def load() -> Digits:
    """Return the digits, shuffled and split; the same split at every call."""
    bunch: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    images = (bunch.data[order] / 16).astype(np.float32)  # 16 is the brightest
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
    """Train on the batches that `seed` draws; report the steps of each epoch to `advance`."""
    losses, params, seconds = [], [], []
    for batches in epochs_of_batches(digits.train, epochs, seed):
        start = time.perf_counter()
        pending = [trainer.step(batch.images, batch.labels) for batch in batches]
        losses.append(float(np.mean([float(value) for value in pending])))  # waits for all steps
        seconds.append((time.perf_counter() - start) / len(batches))
        advance(len(batches))
        params.append(trainer.params())
    scores = jax.jit(logits)(params[-1], digits.test.images)
    correct = np.asarray(scores).argmax(axis=1) == digits.test.labels
    return History(losses, params, seconds, float(np.mean(correct)))
