"""What is trained: both optimizers, in every library asked for, from the same start."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import optax
from tqdm import tqdm

import torchwise
from torchwise.demo import data, network
from torchwise.demo.jax_side import JaxTrainer
from torchwise.demo.stateful_side import StatefulTrainer
from torchwise.demo.training import History, Trainer, train

TORCHWISE = "torchwise"
STATEFUL = "torchwise.optim"
TORCH = "torch"
_TRANSPLANTED = "torchwise on torch's gradients"


class Recipe(NamedTuple):
    """An optimizer and its hyperparameters, which are torch's as well."""

    optimizer: Callable[..., optax.GradientTransformation]
    hyperparameters: dict[str, Any]


RECIPES = {
    "sgd": Recipe(
        torchwise.sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}
    ),
    "adagrad": Recipe(torchwise.adagrad, {"lr": 0.05}),
}


class Outcome(NamedTuple):
    """What came of one recipe.

    Attributes:
        histories: by library.
        transplanted: of torch's network moved by torchwise, if torch was asked for.
    """

    histories: dict[str, History]
    transplanted: History | None


def run(
    epochs: int, seed: int, *, stateful: bool = False, compare_torch: bool = False
) -> dict[str, Outcome]:
    """Train with each recipe in each library; all see the same weights and batches.

    Args:
        epochs: passes over the training images.
        seed: of the initial weights and of the batches.
        stateful: train through the stateful face as well.
        compare_torch: train in torch as well, and everything on the CPU.

    Returns:
        The outcomes, by the name of the optimizer.
    """
    digits = data.load()
    params = network.initialize(seed)
    trainings = len(RECIPES) * (1 + stateful + 2 * compare_torch)
    steps = trainings * epochs * data.batches_per_epoch(digits.train)
    outcomes = {}
    setting = _comparable() if compare_torch else contextlib.nullcontext()
    with setting, tqdm(total=steps, unit="step") as bar:
        for name in RECIPES:
            histories = {}
            for library, trainer in _trainers(name, params, stateful, compare_torch).items():
                bar.set_description(f"{name}, {library}")
                histories[library] = train(trainer, digits, epochs, seed, advance=bar.update)
            outcomes[name] = Outcome(histories, histories.pop(_TRANSPLANTED, None))
    return outcomes


@contextlib.contextmanager
def _comparable() -> Iterator[None]:
    from torchwise.demo import torch_side

    with jax.default_device("cpu"), torch_side.one_thread():
        yield


def _trainers(
    name: str, params: network.ParamsOnHost, stateful: bool, compare_torch: bool
) -> dict[str, Trainer]:
    optimizer, hyperparameters = RECIPES[name]
    transform = optimizer(**hyperparameters)
    trainers: dict[str, Trainer] = {TORCHWISE: JaxTrainer(transform, params)}
    if stateful:
        trainers[STATEFUL] = StatefulTrainer(name, hyperparameters, params)
    if compare_torch:
        from torchwise.demo import torch_side

        trainers[TORCH] = torch_side.trainer(name, hyperparameters, params)
        trainers[_TRANSPLANTED] = torch_side.transplanted(transform, params)
    return trainers
