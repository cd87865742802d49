"""Digits with plain JAX: parameters in a dict, and one compiled train step that writes in place.

A small convolutional network learns scikit-learn's digits, images of 8 x 8 pixels. The optimizer is
that of many scripts in torch: SGD with Nesterov's momentum, a weight decay that spares the biases,
and a rate that falls along a cosine. Names and axes of the parameters are torch's, so `--save`
writes a file from which torch loads the model and the optimizer.

Start it with `python digits_plain_jax.py --save digits.pt`. It needs torchwise and scikit-learn.
"""

import argparse
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import torchwise
from torchwise import checkpoint, schedules

SHAPES = {"conv1": (16, 1, 3, 3), "conv2": (32, 16, 3, 3), "head": (10, 128)}
BATCH = 64


def initialize(rng):
    """Draw weights and biases as torch does by default."""
    params = {}
    for layer, shape in SHAPES.items():
        bound = np.prod(shape[1:]) ** -0.5
        params[f"{layer}.weight"] = jnp.asarray(rng.uniform(-bound, bound, shape), jnp.float32)
        params[f"{layer}.bias"] = jnp.asarray(rng.uniform(-bound, bound, shape[0]), jnp.float32)
    return params


def logits(params, x):
    """Return the scores of the digits, (count, 10), for images (count, 1, 8, 8)."""
    for layer in ("conv1", "conv2"):
        x = jax.lax.conv(x, params[f"{layer}.weight"], (1, 1), "SAME")
        x = jax.nn.relu(x + params[f"{layer}.bias"][:, None, None])
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    return x.reshape(len(x), -1) @ params["head.weight"].T + params["head.bias"]


def loss_fn(params, x, y):
    """Return the mean cross entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y).mean()


def main(argv=None):
    """Train, and return the share of test images that are recognized."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--save", metavar="PATH", help="for the model and the optimizer")
    args = parser.parse_args(argv)
    digits = load_digits()
    images = np.float32(digits.images / 16)[:, None]  # channels first
    x, x_test, y, y_test = train_test_split(images, digits.target, test_size=360, random_state=0)
    rng, steps = np.random.default_rng(0), len(x) // BATCH

    params = initialize(rng)
    groups = [{}, {"match": "*.bias", "weight_decay": 0.0}]
    rate = schedules.cosine_annealing(0.1, T_max=args.epochs * steps)
    options = {"lr": rate, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
    transform = torchwise.grouped(torchwise.sgd, params, groups, **options)
    state = transform.init(params)

    @functools.partial(jax.jit, donate_argnums=(0, 1))  # the old arrays are written over
    def train_step(params, state, x, y):
        loss, grads = jax.value_and_grad(loss_fn)(params, x, y)
        return *transform.step(grads, state, params), loss

    for epoch in range(args.epochs):
        losses = []
        for rows in rng.permutation(len(x))[: steps * BATCH].reshape(steps, BATCH):
            params, state, loss = train_step(params, state, x[rows], y[rows])
            losses.append(loss)
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}")
    accuracy = float(np.mean(jax.jit(logits)(params, x_test).argmax(axis=1) == y_test))
    print(f"test accuracy: {accuracy:.1%}")
    if args.save:
        optimizer = torchwise.to_state_dict(transform, state, params)
        checkpoint.save(args.save, {"model": params, "optimizer": optimizer})
    return accuracy


if __name__ == "__main__":
    main()
