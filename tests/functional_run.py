"""Our transforms, driven with numpy arrays like `TorchRun`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax


def stepping(transform):
    """The transform's `step` as a jitted function of parameters, state and gradients."""
    return jax.jit(lambda params, state, grads: transform.step(grads, state, params))


def updating(transform):
    """`update` and `apply_updates` in one program, which equality to the bit needs."""

    @jax.jit
    def step(params, state, grads):
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


# Runs of equal transforms share one program, whichever test makes them.
shared_updating = functools.cache(updating)

WAYS = {"step": stepping, "update": updating}


@jax.jit
def step_of_any(transform, params, state, grads):
    """A step of a chain whose numbers are data: chains of one structure share a program."""
    return transform.step(grads, state, params)


class FunctionalRun:
    """A chain over a list of arrays.

    Args:
        transform: the chain.
        params: numpy arrays.
        step: a function as `stepping` returns, to share its program; by default a new one.
    """

    def __init__(self, transform, params, step=None):
        self.params = [jnp.asarray(param) for param in params]
        self.state = transform.init(self.params)
        self._step = stepping(transform) if step is None else step

    def step(self, grads):
        grads = [jnp.asarray(grad) if isinstance(grad, np.ndarray) else grad for grad in grads]
        self.params, self.state = self._step(self.params, self.state, grads)

    def states(self, key):
        """The states of that name, one per parameter; None where there are none."""
        if key == "step":
            step = self.state.step
            return step if isinstance(step, list) else [step] * len(self.params)
        found = [getattr(state, key) for state in self.state.states if hasattr(state, key)]
        assert len(found) <= 1, f"several states hold {key!r}"
        leaves = found[0] if found else None
        return [None] * len(self.params) if leaves is None else list(map(np.asarray, leaves))

    def adopt(self, params, states):
        """Go on from these parameters, and states under torch's names; None leaves a state."""
        self.params = list(map(jnp.asarray, params))
        self.state = self.state._replace(
            states=tuple(_with_leaves(inner, states) for inner in self.state.states)
        )


def _with_leaves(state, states):
    new = {}
    for key, leaves in states.items():
        old = getattr(state, key, None)
        if old is not None:
            new[key] = [
                was if leaf is None else jnp.asarray(leaf) for was, leaf in zip(old, leaves)
            ]
    return state._replace(**new)


def draw(rng: np.random.Generator, shapes, dtype, scale=1.0):
    """Normal arrays of a type; complex types in both parts."""
    dtype = np.dtype(dtype)
    arrays = [np.asarray(rng.normal(size=shape) * scale) for shape in shapes]
    if dtype.kind == "c":
        arrays = [x + 1j * rng.normal(size=np.shape(x)) * scale for x in arrays]
    return [array.astype(dtype) for array in arrays]
