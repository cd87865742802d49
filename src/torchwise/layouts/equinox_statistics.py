"""Statistics of Equinox's BatchNorm, which are in an `eqx.nn.State` beside the model."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from torchwise.layouts.layer import Array, Layer
from torchwise.layouts.naming import Names
from torchwise.layouts.walk import owners_of
from torchwise.state_dict.layout import Layout
from torchwise.state_dict.splits import Split
from torchwise.trees import path_name

# Equinox divides by 1 - momentum**count; torch does not. A count so high makes the divisor 1.
_MANY = 2**30


def indices(model: Any) -> dict[str, Any]:
    """Return the `StateIndex` nodes of a model by their paths."""
    entries = jax.tree.leaves_with_path(model, is_leaf=_is_index)
    return {path_name(path): node for path, node in entries if _is_index(node)}


def refuse_states(model: Any, state: Any, arrays: Sequence[Array]) -> None:
    """Refuse a `State` among the modules, and anything else in its place.

    Raises:
        TypeError: saying what goes where.
    """
    if state is not None and not _is_state(state):
        raise TypeError(
            f"equinox(): got {type(state).__name__} as the state: pass the eqx.nn.State that "
            "eqx.nn.make_with_state returns with the model"
        )
    if any(_is_state(node) for node in (model, *(one for a in arrays for one in a.owners))):
        raise TypeError(
            "equinox(): got an eqx.nn.State in the model: pass it as the second argument, as in "
            "equinox(model, state)"
        )


def statistics(layout: Layout, model: Any, state: Any, names: Names) -> Layout:
    """Return the layout of a model and its state as a pair as well.

    Raises:
        ValueError: for a state that BatchNorm does not have, or of another model.
    """
    _, markers = state.tree_flatten()
    where = {marker: index for index, marker in enumerate(markers)}
    rename, splits, known = {}, [], set()
    for keys, owners, norm in _batch_norms(model):
        layer = Layer("BatchNorm", norm, keys, owners, {})
        batch = norm.mode == "batch"
        count = norm.batch_counter if batch else norm.ema_first_time_index
        both = norm.batch_state_index if batch else norm.ema_state_index
        if count.marker not in where or both.marker not in where:
            raise ValueError(f"equinox(): the state has nothing for BatchNorm at {layer.path!r}")
        known |= {count.marker, both.marker}
        own = [names.of(layer, name) for name in ("running_mean", "running_var")]
        parts = [names.of(layer, name) for name in ("statistics[count]", *_PARTS)]
        place = where[both.marker]
        paths = [f"1.{where[count.marker]}", f"1.{place}.0", f"1.{place}.1"]
        rename |= dict(zip(paths, parts))
        splits.append(_split(norm, tuple(own), tuple(parts)))
    if {*markers} - known:
        others = ", ".join(map(str, sorted(map(str, {*markers} - known))))
        raise ValueError(f"equinox(): torch has no buffers for the state of {others}")
    assert isinstance(layout.rename, dict)
    return layout._replace(
        rename={**layout.rename, **_of_pair(layout.rename), **rename},
        permute={**layout.permute, **_of_pair(layout.permute)},
        splits=(*layout.splits, *splits),
    )


_PARTS = ("statistics[mean]", "statistics[var]")


def _split(norm: Any, names: tuple[str, ...], parts: tuple[str, ...]) -> Split:
    """Return how torch's statistics become Equinox's, with what it divides by."""
    momentum, batch = np.float32(norm.momentum), norm.mode == "batch"

    def split(mean: Any, var: Any) -> tuple[Any, Any, Any]:
        return np.asarray(_MANY if batch else False), mean, var

    def join(count: Any, mean: Any, var: Any) -> tuple[Any, Any]:
        if not batch:  # nothing has been seen while the count is True, and memory is as it was
            return (mean * 0, var * 0 + 1) if bool(count) else (mean, var)
        divisor = 1 - momentum ** np.float32(count) if int(count) else np.float32(1)
        return mean / divisor, var / divisor

    return Split(names, parts, split, join, False, "statistics have no state in an optimizer")


def _batch_norms(model: Any) -> Iterator[tuple[tuple[str, ...], list[Any], Any]]:
    """Yield the keys of each BatchNorm, what these are looked up in, and the norm."""

    def is_norm(node: Any) -> bool:
        return any(
            kind.__name__ == "BatchNorm" and kind.__module__.startswith("equinox.nn.")
            for kind in type(node).__mro__
        )

    for path, node in jax.tree.leaves_with_path(model, is_leaf=is_norm):
        if is_norm(node):
            keys = tuple(path_name((key,)) for key in path)
            yield keys, owners_of(model, path), node


def _of_pair(by_path: Mapping[str, Any]) -> dict[str, Any]:
    return {f"0.{path}": value for path, value in by_path.items()}


def _is_state(node: Any) -> bool:
    return type(node).__name__ == "State" and type(node).__module__.startswith("equinox.")


def _is_index(node: Any) -> bool:
    return type(node).__name__ == "StateIndex" and type(node).__module__.startswith("equinox.")
