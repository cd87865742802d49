"""Five steps on eight devices, and the same on one; the first compiled step takes them all."""

import json
import sys

import jax
from layout import (
    AXIS_TYPES,
    TRANSFORMS,
    collectives,
    draw,
    misplaced,
    same_bits,
    shardings,
    step,
)

INITS = {
    "eager": lambda transform: transform.init,
    "jit": lambda transform: jax.jit(transform.init),
}
STEPS = 5


def main(names):
    """Print one dict of facts for each transform, type of axis, and way to call `init`."""
    facts = {}
    for name in names:
        transform = TRANSFORMS[name]
        alone = one_device(transform)
        for label, axis_type in AXIS_TYPES.items():
            places = shardings(axis_type)
            params, grads = jax.device_put(draw(0), places), jax.device_put(draw(1), places)
            compiled = step(transform).lower(params, transform.init(params), grads).compile()
            for way, init in INITS.items():
                key = f"{name} / {label} / {way}"
                facts[key] = eight_devices(compiled, places, init(transform), alone)
    print(json.dumps(facts))


def one_device(transform):
    """Return parameters and state after the last step."""
    params = jax.tree.map(jax.numpy.asarray, draw(0))
    state = transform.init(params)
    advance = step(transform)
    for seed in range(1, STEPS + 1):
        params, state = advance(params, state, draw(seed))
    return params, state


def eight_devices(compiled, places, init, alone):
    """Return what is to be known of the sharded run."""
    params = jax.device_put(draw(0), places)
    state = init(params)
    facts = {"misplaced at init": misplaced(state, params), "misplaced later": []}
    facts["collectives"] = collectives(compiled)
    for seed in range(1, STEPS + 1):
        # a compiled program refuses arrays that lie elsewhere than at its compilation
        params, state = compiled(params, state, jax.device_put(draw(seed), places))
        facts["misplaced later"] += misplaced(state, params)
    kept = jax.tree.map(
        lambda param, place: param.sharding.is_equivalent_to(place, param.ndim), params, places
    )
    facts["parameters kept"] = all(kept.values())
    facts["same bits"] = same_bits((params, state), alone)
    return facts


if __name__ == "__main__":
    main(sys.argv[1:])
