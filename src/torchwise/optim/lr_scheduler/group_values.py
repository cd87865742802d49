"""Hyperparameters of groups, read and written: numbers, or arrays of one element."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from torchwise.numbers import is_array
from torchwise.optim.optimizer import Optimizer

Group = dict[str, Any]


def values_of(optimizer: Optimizer, key: str) -> list[Any]:
    """Return what each group has under a key, copied if it could be changed in place."""
    return [copied(group[key]) for group in optimizer.param_groups]


def copied(value: Any) -> Any:
    """Return a copy of a container or of a numpy array; JAX's arrays never change."""
    if isinstance(value, np.ndarray | list | dict | Counter):
        return value.copy()
    return value


def operand(value: Any) -> Any:
    """Return an array of one element as a numpy scalar of its type, in which torch computes."""
    return np.asarray(value).reshape(())[()] if is_array(value) else value


def write(group: Group, key: str, value: Any) -> None:
    """Set a value; an array stays one, of its own type and shape, on its device."""
    old = group[key]
    if isinstance(old, np.ndarray):
        value = np.asarray(value).astype(old.dtype).reshape(old.shape)
    elif is_array(old):
        value = jnp.full_like(old, operand(value))
    group[key] = value


@contextlib.contextmanager
def unwritten(optimizer: Optimizer) -> Iterator[None]:
    """Give the groups back what they had if the block raises."""
    before = [dict(group) for group in optimizer.param_groups]
    try:
        yield
    except BaseException:
        for group, held in zip(optimizer.param_groups, before):
            group.clear()
            group.update(held)
        raise


def write_momentum(group: Group, use_beta1: bool, value: Any) -> None:
    """Set the momentum of a group, or the first of its betas."""
    if use_beta1:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


def momentum_of(group: Group, use_beta1: bool) -> Any:
    """Return what `write_momentum` has set."""
    return group["betas"][0] if use_beta1 else group["momentum"]


def one_each(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """Return a value for each group, from one or from a sequence of them.

    Raises:
        ValueError: as torch does, for a sequence of another length.
    """
    count = len(optimizer.param_groups)
    if not isinstance(value, list | tuple):
        return [copied(value) for _ in range(count)]
    if len(value) != count:
        raise ValueError(
            f"{name} must have the same length as optimizer.param_groups. {name} has {len(value)} "
            f"values, param_groups has {count}."
        )
    return list(map(copied, value))


def has_momentum(optimizer: Optimizer) -> bool:
    """Return whether what is cycled is the first of the betas.

    Raises:
        ValueError: as torch does, for an optimizer with neither momentum nor betas.
    """
    if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
        raise ValueError(
            "optimizer must support momentum or beta1 with `cycle_momentum` option enabled"
        )
    return "betas" in optimizer.defaults


def refuse_late_groups(scheduler: Any, made_for: Sequence[Any]) -> None:
    """Raise a ValueError if groups were added that a scheduler has no values for.

    torch raises as well, from a zip or with a bare key, after it has written the first groups.
    """
    count = len(scheduler.optimizer.param_groups)
    if count != len(made_for):
        raise ValueError(
            f"{type(scheduler).__name__} was made for {len(made_for)} parameter groups, but the "
            f"optimizer has {count} now; nothing has changed. Add the groups first and make the "
            "scheduler then, or give a group of its own its own optimizer"
        )
