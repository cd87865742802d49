"""The training through the stateful face: torch's way of writing it, one compiled program still."""

from typing import Any, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np

from torchwise import optim
from torchwise.demo import network

_OPTIMIZERS = {"sgd": optim.SGD, "adagrad": optim.Adagrad}


class StatefulTrainer:
    """The optimizer itself holds parameters and state."""

    def __init__(
        self, name: str, hyperparameters: dict[str, Any], params: network.ParamsOnHost
    ) -> None:
        self._optimizer = _OPTIMIZERS[name](jax.tree.map(jnp.array, params), **hyperparameters)

    def step(self, images: np.ndarray, labels: np.ndarray) -> SupportsFloat:
        """Take one step."""
        return self._optimizer.train_step(network.loss, images, labels)

    def params(self) -> network.ParamsOnHost:
        """Return a copy of the parameters."""
        return {name: np.array(param) for name, param in self._optimizer.params.items()}

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return the most likely digit of each image."""
        return np.asarray(jax.jit(network.logits)(self._optimizer.params, images)).argmax(axis=1)
