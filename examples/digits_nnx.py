"""Digits with Flax NNX: a network with BatchNorm, and a transform in `nnx.Optimizer`.

A small convolutional network learns scikit-learn's digits, images of 8 x 8 pixels, with AdamW. As
in timm, weights alone decay: biases and norms do not. The rate warms up for an epoch and then falls
along a cosine. `--save` writes the model, with the statistics of its norms, and the optimizer under
torch's names and with torch's axes, so that torch loads both.

Start it with `python digits_nnx.py --save digits.pt`. It needs torchwise, flax and scikit-learn.
"""

import argparse

import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import torchwise
from torchwise import checkpoint, schedules

BATCH = 64
LAYERS = ("conv1", "norm1", "conv2", "norm2", "head")  # in torch's order; NNX sorts them
NAMES = [f"{layer}.{array}" for layer in LAYERS for array in ("weight", "bias")]


class CNN(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.norm1 = nnx.BatchNorm(16, momentum=0.9, rngs=rngs)  # torch: momentum=0.1
        self.conv2 = nnx.Conv(16, 32, (3, 3), rngs=rngs)
        self.norm2 = nnx.BatchNorm(32, momentum=0.9, rngs=rngs)
        self.head = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.norm1(self.conv1(x))), (2, 2), strides=(2, 2))
        x = nnx.max_pool(nnx.relu(self.norm2(self.conv2(x))), (2, 2), strides=(2, 2))
        return self.head(x.reshape(len(x), -1))


@nnx.jit
def train_step(model, optimizer, x, y):
    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss


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

    model, groups = CNN(nnx.Rngs(0)), torchwise.groups.timm(weight_decay=0.05)
    up = schedules.linear(3e-3, start_factor=0.01, total_iters=steps)
    down = schedules.cosine_annealing(3e-3, T_max=args.epochs * steps)
    rate = schedules.sequential([up, down], milestones=[steps])
    adamw = torchwise.grouped(torchwise.adamw, nnx.state(model, nnx.Param), groups, lr=rate)
    optimizer = nnx.Optimizer(model, adamw, wrt=nnx.Param)

    for epoch in range(args.epochs):
        batches = rng.permutation(len(x))[: steps * BATCH].reshape(steps, BATCH)
        losses = [train_step(model, optimizer, x[rows], y[rows]) for rows in batches]
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}")
    model.eval()  # with the averages of BatchNorm
    accuracy = float(np.mean(model(x_test).argmax(axis=1) == y_test))
    print(f"test accuracy: {accuracy:.1%}")
    if args.save:  # Flax flattens (height, width, channels), torch (channels, height, width)
        layout = torchwise.layouts.flax_nnx(model, flattened={"head": (2, 2, 32)})
        arrays, params = nnx.state(model, (nnx.Param, nnx.BatchStat)), nnx.state(model, nnx.Param)
        saved = torchwise.params_to_state_dict(arrays, layout=layout)
        names = {"names": NAMES, "layout": layout}
        state = torchwise.to_state_dict(adamw, optimizer.opt_state, params, **names)
        checkpoint.save(args.save, {"model": saved, "optimizer": state})
    return accuracy


if __name__ == "__main__":
    main()
