"""One of several processes that train the demo's network together, each on its part of a batch."""

import json
import sys

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from torchwise.demo import training


def main(address, count, index, optimizer, epochs, path):
    """Train; the first process writes the parameters to `path`."""
    jax.distributed.initialize(address, count, index, initialization_timeout=60)
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    whole = NamedSharding(mesh, PartitionSpec())
    rows = NamedSharding(mesh, PartitionSpec("data"))
    transform = training.TRANSFORMS[optimizer]

    @jax.jit
    def step(params, state, images, labels):
        grads = jax.grad(training.loss)(params, images, labels)
        return transform.step(grads, state, params)

    params = jax.device_put(training.initialize(0), whole)
    state = transform.init(params)
    for batches in training.epochs_of_batches(training.load().train, epochs, 0):
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
    address, count, index, optimizer, epochs, path = sys.argv[1:]
    main(address, int(count), int(index), optimizer, int(epochs), path)
