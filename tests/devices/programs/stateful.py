"""torch's classes over sharded parameters: steps, fused train steps, and state dicts."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from layout import AXIS_TYPES, CASES, draw, same_bits, shardings

from torchwise import optim


def main(names):
    """Print one dict of facts for each case."""
    places = shardings(AXIS_TYPES["Auto"])
    print(json.dumps({name: facts(CASES[name], places) for name in names}))


def facts(case, places):
    """Take the same steps on eight devices and on one."""

    def build(params):
        return getattr(optim, case.optimizer.stateful)(params, **case.hyperparameters)

    alone = build(jax.tree.map(jnp.asarray, draw(0)))
    sharded = build(jax.device_put(draw(0), places))
    result = {"misplaced": []}
    for seed in (1, 2, 3):
        set_gradients(alone, draw(seed))
        set_gradients(sharded, jax.device_put(draw(seed), places))
        alone.step()
        sharded.step()
        result["misplaced"] += misplaced(sharded, places)
    result["same bits"] = same_bits(alone.params, sharded.params)

    loaded = build(jax.device_put(draw(7), places))
    on_host = jax.tree.map(
        lambda x: np.array(x) if isinstance(x, jax.Array) else x, sharded.state_dict()
    )
    loaded.load_state_dict(on_host)
    result["misplaced after loading"] = misplaced(loaded, places)
    loaded.train_step(loss)
    sharded.train_step(loss)
    result["misplaced after train_step"] = misplaced(loaded, places) + misplaced(sharded, places)
    _, params, state = sharded.to_functional()
    sharded.from_functional(params, state)
    result["misplaced after the functional way"] = misplaced(sharded, places)
    return result


def loss(params):
    """A loss that needs every parameter."""
    return sum(jnp.sum(jnp.sin(param)) for param in params.values())


def set_gradients(optimizer, grads):
    """Give each parameter its gradient."""
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = jnp.asarray(grads[parameter.name])


def misplaced(optimizer, places):
    """Return the names of what does not lie where its parameter was put."""
    wrong = []
    for parameter in optimizer.param_groups[0]["params"]:
        arrays = {"data": parameter.data, **optimizer.state[parameter]}
        for key, array in arrays.items():
            if array.shape == parameter.shape and isinstance(array, jax.Array):
                place = places[parameter.name]
                if not array.sharding.is_equivalent_to(place, array.ndim):
                    wrong.append(f"{parameter.name}.{key}: {array.sharding}")
    return wrong


if __name__ == "__main__":
    main(sys.argv[1:])
