"""A multilayer perceptron in plain JAX, with torch's names, layout and initial distribution.

Parameters are a flat dictionary, such as torch's `state_dict()`: weights are (outputs, inputs).
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

SIZES = {"hidden": (64, 128), "output": (128, 10)}  # layer -> (inputs, outputs)

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
