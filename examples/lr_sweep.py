"""Eight learning rates at once: `jax.vmap` over a hyperparameter, in one compiled program.

A hyperparameter may be an array, so a whole run can be mapped over its rate. Each lane trains the
same network with AdamW, warm-up and clipping. Start it with `python examples/lr_sweep.py`.
"""

import argparse

import jax
import jax.numpy as jnp

import torchwise
from torchwise import schedules

RATES = [3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0]


def problem():
    """Return first parameters, points (256, 2) and a function's values there (256, 1)."""
    sizes, keys = [(2, 32), (32, 32), (32, 1)], jax.random.split(jax.random.key(0), 4)
    params = [(jax.random.normal(k, s) / s[0] ** 0.5, jnp.zeros(s[1])) for k, s in zip(keys, sizes)]
    x = jax.random.uniform(keys[3], (256, 2), minval=-1, maxval=1)
    return params, x, jnp.sin(4 * x[:, :1]) * jnp.cos(3 * x[:, 1:])


def loss(params, x, y):
    """Return the mean squared error of the network."""
    *hidden, (last, shift) = params
    for weight, bias in hidden:
        x = jnp.tanh(x @ weight + bias)
    return jnp.mean((x @ last + shift - y) ** 2)


def train(rate, steps):
    """Return the losses (steps,) of a run with a learning rate, which may be traced."""
    params, *data = problem()
    warm_up = schedules.linear(rate, start_factor=0.1, total_iters=10)
    transform = torchwise.chain(torchwise.clip_grad_norm(1.0), torchwise.adamw(lr=warm_up))

    def step(carry, _):
        value, grads = jax.value_and_grad(loss)(carry[0], *data)
        return transform.step(grads, carry[1], carry[0]), value

    return jax.lax.scan(step, (params, transform.init(params)), length=steps)[1]


def main(argv=None):
    """Print the last loss of each rate; return the best rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    steps = parser.parse_args(argv).steps
    last = jax.jit(jax.vmap(lambda rate: train(rate, steps)))(jnp.array(RATES))[:, -1]
    print("\n".join(f"lr {rate:<6g} loss {value:.5f}" for rate, value in zip(RATES, last)))
    return RATES[int(jnp.nanargmin(last))]


if __name__ == "__main__":
    print("best:", main())
