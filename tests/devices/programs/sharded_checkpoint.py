"""Save sharded state; restore it onto the same devices, onto others, and onto one.

With orbax, and where torch has the optimizer, as a state dict in a file, too.
"""

import json
import sys
from pathlib import Path

import jax
import orbax.checkpoint
from jax.sharding import NamedSharding
from layout import AXIS_TYPES, CASES, TRANSFORMS, draw, misplaced, same_bits, shardings, step

import torchwise
from torchwise import checkpoint


def main(folder, names):
    """Print one dict of facts for each transform."""
    print(json.dumps({name: facts(name, folder / str(i)) for i, name in enumerate(names)}))


def facts(name, path):
    """Train, save, restore in three ways, and train on from the restored state."""
    transform, places = TRANSFORMS[name], shardings(AXIS_TYPES["Auto"])
    params = jax.device_put(draw(0), places)
    advance = step(transform)
    trained = advance(params, transform.init(params), jax.device_put(draw(1), places))
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, trained)

    others = {key: NamedSharding(half_as_many(), place.spec) for key, place in places.items()}
    layouts = {"same devices": places, "four devices": others, "one device": jax.devices()[0]}
    result = {}
    for label, layout in layouts.items():
        fresh = jax.device_put(draw(2), layout)
        restored = restore(path, (fresh, transform.init(fresh)))
        result[label] = {
            "structure": jax.tree.structure(restored) == jax.tree.structure(trained),
            "same bits": same_bits(restored, trained),
            "kept": [leaf.sharding for leaf in jax.tree.leaves(restored[0])]
            == [leaf.sharding for leaf in jax.tree.leaves(fresh)],
        }
        if label != "one device":
            result[label]["misplaced"] = misplaced(restored[1], restored[0])
    if name in CASES:
        result["state dict"] = through_a_state_dict(
            transform, *trained, path.with_suffix(".pt"), layouts
        )
    restored = restore(path, trained)
    grads = jax.device_put(draw(3), places)
    result["goes on"] = same_bits(advance(*restored, grads), advance(*trained, grads))
    return result


def through_a_state_dict(transform, params, state, path, layouts):
    """Write sharded state into a file as torch does; read it back for every layout."""
    checkpoint.save(path, torchwise.to_state_dict(transform, state, params))
    found = {}
    for label, layout in layouts.items():
        fresh = jax.device_put(draw(2), layout)
        _, restored = torchwise.from_state_dict(checkpoint.load(path), fresh)
        found[label] = {"same bits": same_bits(restored, state), "misplaced": []}
        if label != "one device":
            found[label]["misplaced"] = misplaced(restored, fresh)
    return found


def restore(path, like):
    """Return what was saved, in the structure and the places of `like`."""
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path, like)


def half_as_many():
    """Return a mesh of the last four devices."""
    return jax.make_mesh(
        (2, 2),
        ("data", "model"),
        devices=jax.devices()[4:],
        axis_types=(AXIS_TYPES["Auto"],) * 2,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
