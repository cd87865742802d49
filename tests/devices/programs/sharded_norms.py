"""Chains with a norm, on eight devices: what they send, and how far they are from one device."""

import json

import jax
import numpy as np
from layout import AXIS_TYPES, collectives, draw, misplaced, shardings, step

import torchwise

RULE = torchwise.sgd(lr=0.1, momentum=0.9)
CHAINS = {
    "global": torchwise.chain(torchwise.clip_grad_norm(1.0), RULE),
    "largest": torchwise.chain(torchwise.clip_grad_norm(1.0, "inf"), RULE),
    "each": torchwise.chain(torchwise.clip_each_by_norm(0.5), RULE),
    "value": torchwise.chain(torchwise.clip_grad_value(0.5), RULE),
}


def main():
    """Print one dict of facts for each chain and type of axis."""
    facts = {}
    for name, transform in CHAINS.items():
        whole = jax.tree.map(jax.numpy.asarray, draw(0))
        alone, _ = step(transform)(whole, transform.init(whole), draw(1))
        for label, axis_type in AXIS_TYPES.items():
            places = shardings(axis_type)
            params, grads = jax.device_put(draw(0), places), jax.device_put(draw(1), places)
            state = transform.init(params)
            compiled = step(transform).lower(params, state, grads).compile()
            moved, state = compiled(params, state, grads)
            apart = jax.tree.map(
                lambda one, other: float(np.max(np.abs(np.asarray(one) - np.asarray(other)))),
                moved,
                alone,
            )
            facts[f"{name} / {label}"] = {
                "collectives": collectives(compiled),
                "misplaced": misplaced(state, moved),
                "apart": max(jax.tree.leaves(apart)),
            }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
