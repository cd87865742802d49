"""ZeRO stage 1: whole parameters and an eighth of the state on every device."""

import json

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec
from layout import AXIS_TYPES, TRANSFORMS, bytes_per_device, collectives, same_bits

SHAPES = {"matrix": (4096, 33), "vector": (800,)}
STEPS = 5


def main():
    """Print one dict of facts for each transform and kind of axis."""
    facts = {}
    for name in ("sgd", "sgd, dampening", "adagrad"):
        for kind, axis_type in AXIS_TYPES.items():
            mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
            facts[f"{name} / {kind}"] = compare(TRANSFORMS[name], mesh)
    print(json.dumps(facts))


def compare(transform, mesh):
    """Train once with whole state and once with shares of it."""
    whole = NamedSharding(mesh, PartitionSpec())
    shares = NamedSharding(mesh, PartitionSpec("data"))

    def train_step(params, state, x):
        grads = jax.grad(loss)(params, x)
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

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
    return {
        "state bytes": bytes_per_device(state),
        "shared state bytes": bytes_per_device(zero_state),
        "parameter bytes": bytes_per_device(zero_params),
        "steps bytes": bytes_per_device(zero_state.step),
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
    main()
