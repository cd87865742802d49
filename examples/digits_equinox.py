"""Digits with Equinox: the whole model goes through the step, and its running average is tested.

A small convolutional network with GroupNorm learns scikit-learn's digits, images of 8 x 8 pixels,
with NAdam, whose rate falls with each epoch. As in torch's `AveragedModel`, an exponential average
of the parameters is kept as well. `--save` writes the average, the model and the optimizer under
torch's names, so that torch loads all three.

Start it with `python digits_equinox.py --save digits.pt`. It needs equinox and scikit-learn.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import torchwise
from torchwise import averages, checkpoint, schedules

BATCH = 64


def network(key):
    keys = jax.random.split(key, 3)
    layers = (
        eqx.nn.Conv2d(1, 16, 3, padding=1, key=keys[0]),
        eqx.nn.GroupNorm(4, 16),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.MaxPool2d(2, stride=2),
        eqx.nn.Conv2d(16, 32, 3, padding=1, key=keys[1]),
        eqx.nn.GroupNorm(4, 32),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.MaxPool2d(2, stride=2),
        eqx.nn.Lambda(jnp.ravel),
        eqx.nn.Linear(128, 10, key=keys[2]),
    )
    return eqx.nn.Sequential(layers)


def loss_fn(model, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()


def main(argv=None):
    """Train, and return the share of test images that the average recognizes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--save", metavar="PATH", help="for average, model and optimizer")
    args = parser.parse_args(argv)
    digits = load_digits()
    images = np.float32(digits.images / 16)[:, None]  # channels first
    x, x_test, y, y_test = train_test_split(images, digits.target, test_size=360, random_state=0)
    rng, steps = np.random.default_rng(0), len(x) // BATCH

    rate = schedules.every(steps, schedules.exponential(5e-3, gamma=0.8))
    transform, average = torchwise.nadam(lr=rate), averages.ema(decay=0.95)
    model = network(jax.random.key(0))
    state = transform.init(eqx.filter(model, eqx.is_inexact_array))
    averaged = average.init(model)

    @eqx.filter_jit
    def train_step(model, state, averaged, x, y):
        loss, grads = eqx.filter_value_and_grad(loss_fn)(model, x, y)
        model, state = transform.step(grads, state, model)
        return model, state, average.update(averaged, model), loss

    for epoch in range(args.epochs):
        losses = []
        for rows in rng.permutation(len(x))[: steps * BATCH].reshape(steps, BATCH):
            model, state, averaged, loss = train_step(model, state, averaged, x[rows], y[rows])
            losses.append(loss)
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}")
    accuracy = float(np.mean(jax.vmap(averaged.params)(x_test).argmax(axis=1) == y_test))
    print(f"test accuracy: {accuracy:.1%}")
    if args.save:
        layout = torchwise.layouts.equinox(model)
        params, ema = eqx.filter((model, averaged.params), eqx.is_inexact_array)
        optimizer = torchwise.to_state_dict(transform, state, params, order="given", layout=layout)
        params = torchwise.params_to_state_dict(params, layout=layout)
        ema = torchwise.params_to_state_dict(ema, layout=layout)
        checkpoint.save(args.save, {"ema": ema, "model": params, "optimizer": optimizer})
    return accuracy


if __name__ == "__main__":
    main()
