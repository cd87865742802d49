"""The training in JAX: loss, gradient, update and apply in one compiled program."""

import functools
from typing import Any, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
import optax

from torchwise.demo import network


class JaxTrainer:
    """Holds parameters and state; the mathematics is the pure function below."""

    def __init__(
        self, transform: optax.GradientTransformation, params: network.ParamsOnHost
    ) -> None:
        self._params = jax.tree.map(jnp.array, params)
        self._state = transform.init(self._params)
        self._step = jax.jit(functools.partial(_step, transform), donate_argnums=(0, 1))

    def step(self, images: np.ndarray, labels: np.ndarray) -> SupportsFloat:
        """Take one step; the old parameters and the old state are overwritten in place."""
        loss, self._params, self._state = self._step(self._params, self._state, images, labels)
        return loss

    def params(self) -> network.ParamsOnHost:
        """Return a copy of the parameters."""
        return {name: np.array(param) for name, param in self._params.items()}

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return the most likely digit of each image."""
        return np.asarray(jax.jit(network.logits)(self._params, images)).argmax(axis=1)


def _step(
    transform: optax.GradientTransformation,
    params: network.Params,
    state: Any,
    images: jax.Array,
    labels: jax.Array,
) -> tuple[jax.Array, network.Params, Any]:
    loss, grads = jax.value_and_grad(network.loss)(params, images, labels)
    return loss, *move(transform, grads, state, params)


def move(
    transform: optax.GradientTransformation,
    grads: network.Params,
    state: Any,
    params: network.Params,
) -> tuple[Any, Any]:
    """Return the parameters moved along their gradients, and the new state. To be compiled."""
    updates, state = transform.update(grads, state, params)
    return optax.apply_updates(params, updates), state
