"""Parameters, state and batch in shares on all devices (FSDP), in one compiled, donating step.

Where there is only a CPU, XLA divides it into eight virtual devices. With several GPUs or TPUs,
the program runs on these.

Start it with `python examples/sharded.py`; `--steps 3` makes it shorter.
"""

import argparse
import os

os.environ["XLA_FLAGS"] = " ".join(
    ["--xla_force_host_platform_device_count=8", os.environ.get("XLA_FLAGS", "")]
)

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

import torchwise

SIZES = [(64, 512), (512, 512), (512, 8)]


def start():
    """Return the parameters of a network of three layers; eight divides every first axis."""
    keys = jax.random.split(jax.random.key(0), 3)
    return [(jax.random.normal(k, s) / s[0] ** 0.5, jnp.zeros(s[1])) for k, s in zip(keys, SIZES)]


def loss(params, x, y):
    """Return the mean squared error of the network."""
    *hidden, (last, shift) = params
    for weight, bias in hidden:
        x = jnp.tanh(x @ weight + bias)
    return jnp.mean((x @ last + shift - y) ** 2)


def train(sharding, steps):
    """Return parameters and state after a run in which all arrays have the given sharding."""
    transform = torchwise.sgd(lr=0.05, momentum=0.9, weight_decay=1e-4)
    params = jax.device_put(start(), sharding)
    state = transform.init(params)  # lies where the parameters lie

    def step(params, state, x, y):
        value, grads = jax.value_and_grad(loss)(params, x, y)
        params, state = transform.step(grads, state, params)
        return params, state, value

    kept = jax.tree.map(lambda array: array.sharding, (params, state))
    step = jax.jit(step, donate_argnums=(0, 1), out_shardings=(*kept, None))
    for key in jax.random.split(jax.random.key(1), steps):
        x = jax.random.normal(key, (256, 64))
        batch = jax.device_put((x, jnp.sin(x[:, :8] + x[:, 8:16])), sharding)
        params, state, value = step(params, state, *batch)
        value.block_until_ready()  # virtual devices of few cores may block each other otherwise
    print(f"on {len(sharding.device_set)} device(s): loss {value:.6f}")
    return params, state


def main(argv=None):
    """Return the largest distance of a parameter from its value on one device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    steps = parser.parse_args(argv).steps
    if jax.device_count() == 1:
        raise SystemExit("there is one device: set JAX_PLATFORMS=cpu, for eight virtual ones")
    mesh = jax.make_mesh((jax.device_count(),), ("shares",), axis_types=(AxisType.Auto,))
    params, state = train(NamedSharding(mesh, PartitionSpec("shares")), steps)
    momentum = optax.tree.get(state, "momentum_buffer")[1][0]
    print("momentum of a weight:", momentum.shape, momentum.sharding)
    print("on each device:", momentum.addressable_shards[0].data.shape)
    alone, _ = train(SingleDeviceSharding(jax.devices()[0]), steps)
    distances = jax.tree.map(lambda a, b: abs(jax.device_get(a) - b).max(), params, alone)
    return float(max(jax.tree.leaves(distances)))


if __name__ == "__main__":
    print("largest distance from one device:", main())
