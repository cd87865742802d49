"""Digits with Flax Linen: BatchNorm, `TrainState`, clipped gradients, and the one-cycle policy.

A small convolutional network learns scikit-learn's digits by SGD. The rate rises and falls once,
momentum the other way round, as with torch's OneCycleLR. `--save` writes a file for torch.

Start it with `python digits_linen.py --save digits.pt`. It needs torchwise, flax and scikit-learn.
"""

import argparse

import flax.linen as nn
import jax
import numpy as np
import optax
from flax.training import train_state
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import torchwise
from torchwise import checkpoint, schedules

BATCH = 64
LAYERS = ("conv1", "norm1", "conv2", "norm2", "head")  # in torch's order; JAX sorts them
NAMES = [f"{layer}.{array}" for layer in LAYERS for array in ("weight", "bias")]


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        for number, features in enumerate((16, 32), start=1):
            x = nn.Conv(features, (3, 3), name=f"conv{number}")(x)
            norm = nn.BatchNorm(not train, momentum=0.9, name=f"norm{number}")  # torch: 0.1
            x = nn.max_pool(nn.relu(norm(x)), (2, 2), strides=(2, 2))
        return nn.Dense(10, name="head")(x.reshape(len(x), -1))


class TrainState(train_state.TrainState):
    batch_stats: dict


@jax.jit
def train_step(run, x, y):
    def loss_fn(params):
        variables = {"params": params, "batch_stats": run.batch_stats}
        scores, moved = run.apply_fn(variables, x, train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(scores, y).mean(), moved

    (loss, moved), grads = jax.value_and_grad(loss_fn, has_aux=True)(run.params)
    return run.apply_gradients(grads=grads, **moved), loss


def main(argv=None):
    """Train, and return the share of test images that are recognized."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--save", metavar="PATH", help="for the model and the optimizer")
    args = parser.parse_args(argv)
    digits = load_digits()
    images = np.float32(digits.images / 16)[..., None]  # channels last
    x, x_test, y, y_test = train_test_split(images, digits.target, test_size=360, random_state=0)
    rng, steps = np.random.default_rng(0), len(x) // BATCH

    net, total = CNN(), args.epochs * steps
    rate, momentum = schedules.one_cycle(0.2, total), schedules.one_cycle_momentum(0.95, total)
    sgd = torchwise.sgd(lr=rate, momentum=momentum, weight_decay=5e-4)
    transform = torchwise.chain(torchwise.clip_grad_norm(1.0), sgd)
    variables = net.init(jax.random.key(0), x[:1], train=True)
    run = TrainState.create(apply_fn=net.apply, tx=transform, **variables)

    for epoch in range(args.epochs):
        losses = []
        for rows in rng.permutation(len(x))[: steps * BATCH].reshape(steps, BATCH):
            run, loss = train_step(run, x[rows], y[rows])
            losses.append(loss)
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}")
    variables = {"params": run.params, "batch_stats": run.batch_stats}
    accuracy = float(np.mean(net.apply(variables, x_test, train=False).argmax(axis=1) == y_test))
    print(f"test accuracy: {accuracy:.1%}")
    if args.save:  # Flax flattens (height, width, channels), torch (channels, height, width)
        shape = {"head": (2, 2, 32)}
        layout = torchwise.layouts.flax_linen(net, x[:1], train=True, flattened=shape)
        names = {"names": NAMES, "layout": layout}
        model = torchwise.params_to_state_dict(variables, layout=layout)
        state = torchwise.to_state_dict(transform, run.opt_state, run.params, **names)
        checkpoint.save(args.save, {"model": model, "optimizer": state})
    return accuracy


if __name__ == "__main__":
    main()
