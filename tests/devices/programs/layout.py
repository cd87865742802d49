"""Parameters over eight devices, and what all programs of this folder look at."""

import functools

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import torchwise
from cases import FULL

SPECS = {
    "embedding": PartitionSpec(("data", "model")),
    "matrix": PartitionSpec(None, "model"),
    "bias": PartitionSpec(),
    "scale": PartitionSpec(),
    "rows of three": PartitionSpec("data", "model"),
    "kernel": PartitionSpec("data", "model"),
}
SHAPES = {
    "embedding": (64, 24),
    "matrix": (7, 34),
    "bias": (33,),
    "scale": (),
    "rows of three": (64, 6),  # on each device
    "kernel": (16, 8, 3, 3),
}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
CASES = {case.name: case for case in FULL}
TRANSFORMS = {
    **{name: case.transform for name, case in CASES.items()},
    "schedule": torchwise.sgd(lambda count: 0.1 / (1 + count), 0.9),
    "dragon, correction": torchwise.dragon.trace_with_lr(0.1, 0.9, correction=True),
}
AXIS_TYPES = {"Auto": AxisType.Auto, "Explicit": AxisType.Explicit}


def shardings(axis_type):
    """Return the sharding of each parameter over four times two devices."""
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(axis_type,) * 2)
    return {name: NamedSharding(mesh, spec) for name, spec in SPECS.items()}


def draw(seed):
    """Return a normal array for each parameter, on the host."""
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=shape).astype("f4") for name, shape in SHAPES.items()}


def step(transform):
    """Return a step as one program, for this transform alone."""

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step_of_transform(params, state, grads):
        return transform.step(grads, state, params)

    return step_of_transform


def collectives(compiled):
    """Return the operations of a compiled program that talk to other devices."""
    text = compiled.as_text()
    return [name for name in COLLECTIVES if name in text]


def same_bits(tree, other):
    """Whether two trees hold the same bits, wherever they are."""
    leaves, others = jax.tree.leaves(tree), jax.tree.leaves(other)
    assert len(leaves) == len(others) > 0
    return all(np.array(a).tobytes() == np.array(b).tobytes() for a, b in zip(leaves, others))


def misplaced(state, params):
    """Return the paths of a chain's state that are not where their parameters are."""
    wanted = jax.tree.map(lambda param: param.sharding, params)
    wrong = []
    for path, leaf in jax.tree.leaves_with_path(state):
        name = getattr(path[-1], "key", None)  # the one step count is whole on every device
        sharding = wanted[next(iter(wanted)) if name is None else name]
        if name is None or leaf.shape != params[name].shape:
            sharding = NamedSharding(sharding.mesh, PartitionSpec())
        if not leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
            wrong.append(jax.tree_util.keystr(path))
    return wrong


def bytes_per_device(tree):
    """Return how many bytes of a tree each device holds."""
    held = dict.fromkeys(map(str, jax.devices()), 0)
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            held[str(shard.device)] += shard.data.nbytes
    return list(held.values())
