"""Parameters, gradients and states as aligned lists of leaves; errors that name the culprit."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from torchwise.sparse import is_sparse, layout_problem
from torchwise.structure import first_difference, label


def path_name(path: Any) -> str:
    """Return a leaf's path as torch names parameters: "layer.0.weight".

    The wrapper around an array in a Flax nnx state, an attribute "value", has no part in it.
    """
    keys = tuple(path)
    if len(keys) > 1 and keys[-1] == jax.tree_util.GetAttrKey("value"):
        keys = keys[:-1]
    return jax.tree_util.keystr(keys, simple=True, separator=".")


def without_variables(tree: Any) -> Any:
    """Return a tree with what Flax's variables hold in the place of the variables."""

    def is_variable(node: Any) -> bool:
        return type(node).__module__.startswith("flax.") and hasattr(node, "get_value")

    def held(node: Any) -> Any:
        # An array, or the MaskedNode that optax has put in its place.
        return jax.tree.leaves(node, is_leaf=lambda inner: inner is not node)[0]

    return jax.tree.map(
        lambda node: held(node) if is_variable(node) else node, tree, is_leaf=is_variable
    )


def is_missing(grad: Any) -> bool:
    """Whether a gradient says that its parameter is to be left alone."""
    return (
        grad is None
        or isinstance(grad, optax.MaskedNode)
        or getattr(grad, "dtype", None) == jax.dtypes.float0
    )


def is_optimizable(dtype: Any) -> bool:
    """Whether an array of this type can move: float8_e8m0fnu has neither zero nor sign."""
    return jnp.issubdtype(dtype, jnp.inexact) and dtype != jnp.dtype(jnp.float8_e8m0fnu)


def is_number_or_array(leaf: Any) -> bool:
    """Whether a leaf can be a gradient, by its type."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | float | int | complex)


def is_static(leaf: Any) -> bool:
    """Whether a leaf is no number and no array of them, as the functions and names in a model."""
    if isinstance(leaf, jax.Array | np.ndarray | np.generic):  # a random key is an array, too
        return not any(jnp.issubdtype(leaf.dtype, kind) for kind in (jnp.number, jnp.bool_))
    return not (is_number_or_array(leaf) or hasattr(leaf, "__array__") or _is_jax_like(leaf))


def is_constant(leaf: Any) -> bool:
    """Whether a leaf is no array: without a gradient, it is a part of the program, not a number."""
    is_number = isinstance(leaf, float | int | complex) and not isinstance(leaf, np.generic)
    return is_static(leaf) or is_number


def never_moves(leaf: Any) -> bool:
    """Whether torch would have this leaf in no group: it is no array, or one of integers."""
    return is_constant(leaf) or not is_optimizable(jnp.result_type(leaf))


def without_statics(tree: Any) -> Any:
    """Return a tree with None where a leaf is static."""
    return jax.tree.map(lambda leaf: None if is_static(leaf) else leaf, tree)


def refuse_statics(call: str, tree: Any) -> None:
    """Raise a TypeError for leaves that are no arrays, naming them."""
    found = [
        f"{label(path)} is {type(leaf).__name__}"
        for path, leaf in jax.tree.leaves_with_path(tree)
        if is_static(leaf)
    ]
    if found:
        raise TypeError(
            f"{call}(): params has leaves that are no arrays ({', '.join(found)}): pass the arrays "
            "alone, as eqx.filter(model, eqx.is_inexact_array) of an Equinox module"
        )


def align(call: str, grads: Any, params: Any) -> list[Any]:
    """Return the gradient of each leaf of `params`, in order; missing ones as None.

    Args:
        call: the name of the public function, for errors.
        grads: a tree.
        params: a tree.

    Raises:
        ValueError: naming the path of every leaf that has no counterpart or another shape.
    """
    entries, treedef = jax.tree.flatten_with_path(params)
    try:
        aligned = treedef.flatten_up_to(grads)
    except ValueError:
        raise ValueError(_structure_error(call, grads, params)) from None
    problems, leaves = [], []
    for (path, param), grad in zip(entries, aligned):
        grad = None if is_missing(grad) else grad
        problem = None if grad is None else _leaf_problem(grad, param)
        if problem:
            problems.append(f"{label(path)}: {problem}")
        leaves.append(grad)
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(f"{call}(): gradients do not fit the parameters:\n  {listed}")
    return leaves


def has_names(paths: Iterable[Any]) -> bool:
    """Whether the leaves have names: they have none in a mere sequence of arrays, or alone."""
    return any(
        len(path) > 1 or any(not isinstance(key, jax.tree_util.SequenceKey) for key in path)
        for path in paths
    )


def _is_jax_like(leaf: Any) -> bool:
    return hasattr(leaf, "__jax_array__")


def _leaf_problem(grad: Any, param: Any) -> str | None:
    if is_static(param):
        return f"a parameter that is {type(param).__name__} cannot be optimized; pass None for it"
    if is_sparse(grad):
        problem, shape, grad = layout_problem(grad), grad.shape, grad.data
        if problem:
            return problem
    elif not jax.tree_util.all_leaves([grad]):
        return f"the gradient is a {type(grad).__name__}, the parameter an array"
    elif not is_number_or_array(grad):
        return f"the gradient is a {type(grad).__name__}, no array"
    else:
        shape = jnp.shape(grad)
    if shape != jnp.shape(param):
        return f"the gradient has shape {shape}, the parameter {jnp.shape(param)}"
    if not is_optimizable(jnp.result_type(param)):
        return f"a parameter of type {jnp.result_type(param)} cannot be optimized"
    if jnp.iscomplexobj(grad) and not jnp.iscomplexobj(param):
        return f"the gradient is complex, the parameter {jnp.result_type(param)}"
    return None


def _structure_error(call: str, grads: Any, params: Any) -> str:
    given, wanted = _shapes(grads), _shapes(params)
    lines = [
        f"{name}: no gradient for a parameter of shape {shape}"
        for name, shape in wanted.items()
        if name not in given
    ] + [
        f"{name}: a gradient of shape {shape}, but no parameter"
        for name, shape in given.items()
        if name not in wanted
    ]
    if not lines:  # the same paths, through containers of other types
        lines = [first_difference(grads, params, "grads", "params")]
    return (
        f"{call}(): gradients and parameters differ in structure; pass grads as jax.grad returns "
        "them for these params:\n  " + "\n  ".join(lines)
    )


def _shapes(tree: Any) -> dict[str, Any]:
    leaves = jax.tree.leaves_with_path(tree, is_leaf=lambda x: is_missing(x) or is_sparse(x))
    return {label(path): None if is_missing(leaf) else _shape(leaf) for path, leaf in leaves}


def _shape(leaf: Any) -> tuple[int, ...]:
    return leaf.shape if is_sparse(leaf) else jnp.shape(leaf)


def absent() -> jax.Array:
    """Return what stands in a tree of states for a parameter that has no such state."""
    return jnp.zeros((0,), jnp.bool_)


def is_absent(leaf: Any) -> bool:
    """Whether a leaf of a tree of states is `absent`, which no state of numbers is."""
    return leaf.dtype == jnp.bool_ and leaf.shape == (0,)
