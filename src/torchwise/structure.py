"""Where two trees differ, in one line, and what errors call their leaves."""

from typing import Any

import jax
import jax.numpy as jnp


def label(path: Any) -> str:
    """Return a leaf's path as errors name it."""
    return jax.tree_util.keystr(path) or "(the whole tree)"


def difference(given: Any, wanted: Any) -> str | None:
    """Return how two trees of arrays differ in structure, shapes or types, or None.

    A 0-d float may have another type: loading gives it the parameter's.
    """
    if jax.tree.structure(given) != jax.tree.structure(wanted):
        return first_difference(given, wanted, "what was given", "what was expected")
    for (path, one), other in zip(jax.tree.leaves_with_path(given), jax.tree.leaves(wanted)):
        floats = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in (one, other))
        same_type = one.dtype == other.dtype or (floats and other.shape == ())
        if one.shape != other.shape or not same_type:
            return (
                f"{jax.tree_util.keystr(path)} is {one.dtype}{list(one.shape)}, "
                f"but expected {other.dtype}{list(other.shape)}"
            )
    return None


def first_difference(given: Any, wanted: Any, given_name: str, wanted_name: str) -> str:
    """Return in one line where the containers of two trees differ first."""
    return _difference(given, wanted, given_name, wanted_name, ()) or (
        f"what {given_name} and {wanted_name} hold besides arrays differs"
    )


def named(value: Any) -> str:
    """Return what a value is, with an article: "a dict"; None and arrays by what they are."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    kind = "array" if isinstance(value, jax.Array) else type(value).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"


def _difference(given: Any, wanted: Any, given_name: str, wanted_name: str, path: Any) -> str:
    if _is_leaf(given) and _is_leaf(wanted):
        return ""
    if type(given) is not type(wanted):
        return f"{label(path)} is {named(given)} in {given_name}, {named(wanted)} in {wanted_name}"
    ours, theirs = _children(given), _children(wanted)
    for key in theirs:
        if key not in ours:
            return f"{label((*path, *key))} is in {wanted_name}, but not in {given_name}"
    for key in ours:
        if key not in theirs:
            return f"{label((*path, *key))} is in {given_name}, but not in {wanted_name}"
    problems = (
        _difference(ours[key], theirs[key], given_name, wanted_name, (*path, *key))
        for key in theirs
    )
    return next(filter(None, problems), "")


def _children(node: Any) -> dict[Any, Any]:
    return dict(jax.tree.leaves_with_path(node, is_leaf=lambda one: one is not node))


def _is_leaf(value: Any) -> bool:
    return jax.tree_util.all_leaves([value])
