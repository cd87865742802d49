"""Eight learning rates at once: `jax.vmap` over a hyperparameter, in one compiled program.

A hyperparameter may be an array, so a function of the rate can be mapped over rates like any other.
Each lane trains a small network on the same data with AdamW, warm-up included.

Start it with `python examples/lr_sweep.py`; `--steps 50` makes it shorter.
"""

import argparse

import jax
import jax.numpy as jnp

import torchwise
from torchwise import schedules

RATES = [3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0]


def data():
    """Return points (256, 2) and the values (256, 1) of a function with many hills there."""
    x = jax.random.uniform(jax.random.key(0), (256, 2), minval=-1, maxval=1)
    return x, jnp.sin(4 * x[:, :1]) * jnp.cos(3 * x[:, 1:])


def start(width=32):
    """Return the parameters that every lane begins with."""
    keys = jax.random.split(jax.random.key(1), 3)
    sizes = [(2, width), (width, width), (width, 1)]
    return [
        {"weight": jax.random.normal(key, size) / size[0] ** 0.5, "bias": jnp.zeros(size[1])}
        for key, size in zip(keys, sizes)
    ]


def loss(params, x, y):
    """Return the mean squared error of the network."""
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["weight"] + layer["bias"])
    return jnp.mean((x @ params[-1]["weight"] + params[-1]["bias"] - y) ** 2)


def train(rate, params, batch, steps):
    """Return the losses (steps,) of a run with a learning rate, which may be traced."""
    warm_up = schedules.linear(rate, start_factor=0.1, total_iters=10)
    transform = torchwise.chain(torchwise.clip_grad_norm(1.0), torchwise.adamw(lr=warm_up))

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params, *batch)
        return transform.step(grads, state, params), value

    return jax.lax.scan(step, (params, transform.init(params)), length=steps)[1]


def main(argv=None):
    """Print the last loss of each rate; return the best rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    steps = parser.parse_args(argv).steps
    sweep = jax.jit(jax.vmap(lambda rate: train(rate, start(), data(), steps)))
    last = sweep(jnp.array(RATES))[:, -1]
    for rate, value in zip(RATES, last):
        print(f"lr {rate:<6g} loss {value:.5f}")
    return RATES[int(jnp.nanargmin(last))]


if __name__ == "__main__":
    print("best:", main())
