"""New values for all parameters of an optimizer at once, checked before any is changed."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from torchwise.optim.parameter import Parameter, immutable
from torchwise.optim.transaction import hand_over
from torchwise.trees import label

_REFUSED = "optimizer.params was not changed:\n  "


def assign(tree: Any, values: Any) -> None:
    """Do what `optimizer.params = values` does.

    Args:
        tree: holds a `Parameter` in the place of each array that is optimized.
        values: a tree of the same structure. What is no parameter in it is not looked at.

    Raises:
        ValueError: listing all that does not fit, by name.
    """
    entries, treedef = jax.tree.flatten_with_path(tree)
    try:
        leaves = treedef.flatten_up_to(values)
    except ValueError as error:
        raise ValueError(_REFUSED + f"the structure is another one: {error}") from None
    given, problems = [], []
    for (path, parameter), value in zip(entries, leaves):
        if isinstance(parameter, Parameter):
            problem = _problem(parameter, value)
            if problem is None:
                given.append((parameter, immutable(value)))
            else:
                problems.append(f"{label(path)} {problem}")
    if problems:
        raise ValueError(_REFUSED + "\n  ".join(problems))
    hand_over(given, _put)


def _put(given: Sequence[tuple[Parameter, jax.Array]]) -> None:
    for parameter, value in given:
        parameter.adopt(value)


def _problem(parameter: Parameter, value: Any) -> str | None:
    wanted = f"{parameter.dtype}{list(parameter.shape)}"
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        return f"is a {type(value).__name__}, but {wanted} is wanted"
    dtype = value.dtype
    if value.shape != parameter.shape or jnp.dtype(dtype) != parameter.dtype:
        return f"is {dtype}{list(value.shape)}, but {wanted} is wanted"
    return None
