"""One of several processes that train the demo's network together, each on its part of a batch."""

import json
import sys

import jax
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from torchwise.demo import data, experiment, network


def main(address, count, index, recipe, epochs, path):
    """Train; the first process writes the parameters to `path`."""
    jax.distributed.initialize(address, count, index, initialization_timeout=60)
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    whole = NamedSharding(mesh, PartitionSpec())
    rows = NamedSharding(mesh, PartitionSpec("data"))
    optimizer, hyperparameters = experiment.RECIPES[recipe]
    transform = optimizer(**hyperparameters)

    @jax.jit
    def step(params, state, images, labels):
        grads = jax.grad(network.loss)(params, images, labels)
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = jax.device_put(network.initialize(0), whole)
    state = transform.init(params)
    for batches in data.epochs_of_batches(data.load().train, epochs, 0):
        for batch in batches:
            mine = [np.array_split(part, count)[index] for part in batch]
            parts = [jax.make_array_from_process_local_data(rows, part) for part in mine]
            params, state = step(params, state, *parts)
    if index == 0:
        np.savez(path, **{name: np.asarray(param) for name, param in params.items()})
    facts = {
        "processes": jax.process_count(),
        "devices": jax.device_count(),
        "state everywhere": all(
            leaf.sharding.is_equivalent_to(whole, leaf.ndim) for leaf in jax.tree.leaves(state)
        ),
    }
    jax.distributed.shutdown()
    print(json.dumps(facts))


if __name__ == "__main__":
    address, count, index, recipe, epochs, path = sys.argv[1:]
    main(address, int(count), int(index), recipe, int(epochs), path)
