"""What `init` and `step` of L-BFGS are called with: each is refused by its name."""

from typing import Any

import jax
import jax.numpy as jnp

from torchwise.quasi_newton.iteration import LBFGSState
from torchwise.structure import first_difference, label, named

_ORDER = "call step(value_and_grad_fn, state, params)"


def refuse_params(call: str, params: Any) -> None:
    """Raise a TypeError for what is no tree of float or complex arrays."""
    if isinstance(params, LBFGSState):
        raise TypeError(f"{call}(): params is a state: {_ORDER}")
    leaves = jax.tree.leaves_with_path(params)
    if not leaves:
        raise TypeError(f"{call}(): there is no array in params, which is {named(params)}")
    found = [f"{label(path)} is {_kind(leaf)}" for path, leaf in leaves if not _is_inexact(leaf)]
    if found:
        raise TypeError(
            f"{call}(): params has leaves that are no float or complex arrays "
            f"({', '.join(found)}): pass those alone, as eqx.filter(model, eqx.is_inexact_array) "
            "of an Equinox module"
        )


def refuse_state(state: Any, value_and_grad_fn: Any) -> None:
    """Raise a TypeError for another state, or for no function."""
    if not isinstance(state, LBFGSState):
        raise TypeError(
            f"step(): the state is {named(state)}, not one that init(params) returned: {_ORDER}"
        )
    if not callable(value_and_grad_fn):
        raise TypeError(
            f"step(): the first argument is {named(value_and_grad_fn)}, not the function that "
            f"returns the loss and its gradients, as jax.value_and_grad(loss): {_ORDER}"
        )


def checked_evaluation(found: Any, params: Any) -> tuple[Any, Any]:
    """Return the loss and the gradients that the function has returned.

    Raises:
        TypeError: if it has returned something else.
        ValueError: if the gradients are no tree like the parameters.
    """
    if not (isinstance(found, tuple | list) and len(found) == 2):
        raise TypeError(
            f"step(): value_and_grad_fn returned {named(found)}, not (loss, gradients): pass "
            "jax.value_and_grad(loss)"
        )
    loss, grads = found
    if jax.tree.structure(grads) != jax.tree.structure(params):
        raise ValueError(
            "step(): value_and_grad_fn returned gradients of another structure: "
            + first_difference(grads, params, "the gradients", "params")
        )
    for (path, grad), param in zip(jax.tree.leaves_with_path(grads), jax.tree.leaves(params)):
        if jnp.shape(grad) != jnp.shape(param):
            raise ValueError(
                f"step(): the gradient of {label(path)} has shape {jnp.shape(grad)}, the parameter "
                f"{jnp.shape(param)}"
            )
    return loss, grads


def _is_inexact(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _kind(leaf: Any) -> str:
    dtype = getattr(leaf, "dtype", None)
    return type(leaf).__name__ if dtype is None else str(dtype)
