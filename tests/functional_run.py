"""Our transforms, driven with numpy arrays like `TorchRun`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


def jitted_step(transform):
    """Update and `apply_updates` in one program, which equality to the bit needs."""

    @jax.jit
    def step(params, state, grads):
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def states_of(state, key):
    """The fields of that name in a chain's state, parameter by parameter."""
    found = [getattr(inner, key) for inner in state.states if hasattr(inner, key)]
    assert len(found) <= 1, f"several states hold {key!r}"
    return found[0] if found else None


class FunctionalRun:
    """A chain over a list of arrays."""

    def __init__(self, transform, params):
        self.params = [jnp.asarray(param) for param in params]
        self.state = transform.init(self.params)
        self._step = jitted_step(transform)

    def step(self, grads):
        grads = [None if grad is None else jnp.asarray(grad) for grad in grads]
        self.params, self.state = self._step(self.params, self.state, grads)

    def states(self, key):
        leaves = states_of(self.state, key)
        return None if leaves is None else [np.asarray(leaf) for leaf in leaves]

    def adopt(self, theirs, keys):
        """Go on from the parameters and states of the other side."""
        self.params = [jnp.asarray(param) for param in theirs.params]
        inner = []
        for state in self.state.states:
            held = [key for key in keys if hasattr(state, key)]
            inner.append(
                state._replace(**{key: list(map(jnp.asarray, theirs.states(key))) for key in held})
            )
        self.state = self.state._replace(states=tuple(inner))


def draw(rng: np.random.Generator, shapes, dtype, scale=1.0):
    """Normal arrays of a type; complex types in both parts."""
    dtype = np.dtype(dtype)
    arrays = [np.asarray(rng.normal(size=shape) * scale) for shape in shapes]
    if dtype.kind == "c":
        arrays = [x + 1j * rng.normal(size=np.shape(x)) * scale for x in arrays]
    return [array.astype(dtype) for array in arrays]
