"""ZeRO stage 1: whole parameters and an eighth of the state on every device."""

import json
import sys

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from layout import AXIS_TYPES, TRANSFORMS, bytes_per_device, collectives, same_bits

SHAPES = {"matrix": (4096, 33), "vector": (800,)}
STEPS = 5


def main(names):
    """Print one dict of facts for each transform and type of axis."""
    facts = {}
    for name in names:
        for label, axis_type in AXIS_TYPES.items():
            mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
            try:
                facts[f"{name} / {label}"] = compare(TRANSFORMS[name], mesh)
            except Exception as error:
                facts[f"{name} / {label}"] = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(facts))


def compare(transform, mesh):
    """Train once with whole state and once with shares of it."""
    whole = NamedSharding(mesh, PartitionSpec())
    shares = NamedSharding(mesh, PartitionSpec("data"))

    def train_step(params, state, x):
        grads = jax.grad(loss)(params, x)
        return transform.step(grads, state, params)

    def run(places):
        params = jax.device_put(start(), whole)
        state = transform.init(jax.device_put(params, places))
        kept = jax.tree.map(lambda array: array.sharding, (params, state))
        step = jax.jit(train_step, donate_argnums=(0, 1), out_shardings=kept)
        compiled = step.lower(params, state, batch(0)).compile()
        for seed in range(STEPS):
            params, state = compiled(params, state, batch(seed))
        return params, state, compiled

    def batch(seed):
        return jax.device_put(jax.random.normal(jax.random.key(seed), (16, 4096)), shares)

    params, state, _ = run(whole)
    zero_params, zero_state, compiled = run(shares)
    leaves, like = jax.tree.leaves(state), [*SHAPES.values()]
    return {
        "state bytes": bytes_per_device(state),
        "shared state bytes": bytes_per_device(zero_state),
        "parameter bytes": bytes_per_device(zero_params),
        "bytes of one whole": sum(leaf.nbytes for leaf in jax.tree.leaves(params)),
        "bytes like parameters": sum(leaf.nbytes for leaf in leaves if leaf.shape in like),
        "bytes of numbers": sum(leaf.nbytes for leaf in leaves if leaf.shape not in like),
        "same bits": same_bits((params, state), (zero_params, zero_state)),
        "collectives": collectives(compiled),
    }


def loss(params, x):
    """A loss that is the mean of its batch's, and penalizes the vector."""
    return jnp.mean(jnp.tanh(x @ params["matrix"]) ** 2) + jnp.sum(params["vector"] ** 4)


def start():
    """Return the first parameters."""
    keys = jax.random.split(jax.random.key(9), len(SHAPES))
    return {name: jax.random.normal(key, SHAPES[name]) * 0.1 for key, name in zip(keys, SHAPES)}


if __name__ == "__main__":
    main(sys.argv[1:])
