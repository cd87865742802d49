"""Learning to learn: gradients through five steps of an optimizer, as in MAML (Finn et al., 2017).

A task is a sine wave of unknown height and phase, of which ten points are seen. Learned are the
parameters from which five steps of SGD with momentum begin, and the rate of these steps. The outer
optimizer is Adam, whose gradient goes through the whole inner run. Start it with
`python examples/meta_learning.py`; `--steps 300` makes it shorter.
"""

import argparse

import jax
import jax.numpy as jnp

import torchwise


def start(key):
    """Return the parameters of a network of three layers."""
    sizes, keys = [(1, 40), (40, 40), (40, 1)], jax.random.split(key, 3)
    return [(jax.random.normal(k, s) / s[0] ** 0.5, jnp.zeros(s[1])) for k, s in zip(keys, sizes)]


def loss(params, x, y):
    """Return the mean squared error of the network."""
    *hidden, (last, shift) = params
    for weight, bias in hidden:
        x = jnp.tanh(x @ weight + bias)
    return jnp.mean((x @ last + shift - y) ** 2)


def task(key):
    """Return two sets of points of one wave: one to learn from, one to be judged by."""
    keys = jax.random.split(key, 3)
    x = jax.random.uniform(keys[0], (2, 10, 1), minval=-5, maxval=5)
    height = jax.random.uniform(keys[1], minval=0.1, maxval=5)
    y = height * jnp.sin(x - jax.random.uniform(keys[2], maxval=jnp.pi))
    return (x[0], y[0]), (x[1], y[1])


def adapted_loss(learned, key):
    """Return the loss on new points of a task, after five steps on those that are seen."""
    seen, unseen = task(key)
    inner = torchwise.sgd(lr=jnp.exp(learned["log_rate"]), momentum=0.5)

    def step(carry, _):
        params, state = carry
        return inner.step(jax.grad(loss)(params, *seen), state, params), None

    begin = learned["params"], inner.init(learned["params"])
    return loss(jax.lax.scan(step, begin, length=5)[0][0], *unseen)


def mean_loss(learned, keys):
    """Return the mean of the loss over tasks."""
    return jnp.mean(jax.vmap(adapted_loss, in_axes=(None, 0))(learned, keys))


def main(argv=None):
    """Return the loss after adapting from learned parameters, over that from random ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000)
    outer = torchwise.chain(torchwise.clip_grad_norm(10.0), torchwise.adam(lr=2e-3))

    def step(carry, key):
        learned, state = carry
        grads = jax.grad(mean_loss)(learned, jax.random.split(key, 16))  # of 16 tasks
        return outer.step(grads, state, learned), None

    plain = {"params": start(jax.random.key(0)), "log_rate": jnp.log(0.01)}
    keys = jax.random.split(jax.random.key(1), parser.parse_args(argv).steps)
    (learned, _), _ = jax.lax.scan(step, (plain, outer.init(plain)), keys)
    held_out, evaluate = jax.random.split(jax.random.key(2), 200), jax.jit(mean_loss)
    tried = [{**plain, "log_rate": jnp.log(rate)} for rate in (0.001, 0.003, 0.01, 0.03)]
    after, *before = (float(evaluate(one, held_out)) for one in (learned, *tried))
    print(f"loss after five steps: from random parameters {min(before):.3f}, learned {after:.3f}")
    return after / min(before)


if __name__ == "__main__":
    print("ratio:", main())
