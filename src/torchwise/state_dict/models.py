"""Parameters: from the state dict of a torch model, and to it."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from torchwise.passing_order import in_passing_order, passing_order
from torchwise.state_dict.arrays import adopted, any_array
from torchwise.state_dict.layout import Layout, Place, is_ignored
from torchwise.state_dict.matching import match_names
from torchwise.state_dict.splits import join_arrays, split_arrays, torch_names


def params_from_state_dict(
    state_dict: Mapping[str, Any],
    params: Any,
    *,
    prefix: str = "",
    layout: Layout = Layout(),  # noqa: B008 (immutable)
) -> Any:
    """Return a tree with the values of a torch model, each with the type of the tree's own.

    Args:
        state_dict: what `state_dict()` of a torch module returned or a checkpoint holds, with
            arrays of numpy, JAX or torch.
        params: a tree of arrays, or of `jax.ShapeDtypeStruct`: what to fill, with its names.
        prefix: what torch's names begin with, and those of the tree do not: `"module."` of
            DistributedDataParallel, `"_orig_mod."` of `torch.compile`, or `"net."` of a
            LightningModule.
        layout: how names and axes differ. Without it a square matrix that torch has transposed
            would be taken as it is: its shape does not tell.

    Raises:
        ValueError: listing all that is missing, unexpected or of another shape, by name.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> layout = torchwise.Layout({"kernel": "weight"}, {"kernel": (1, 0)})
        >>> saved = {"weight": jnp.ones((2, 3))}
        >>> tree = {"kernel": jnp.zeros((3, 2))}
        >>> torchwise.params_from_state_dict(saved, tree, layout=layout)["kernel"].shape
        (3, 2)
    """
    layout = layout._replace(prefix=f"{prefix}{layout.prefix}")
    tied = layout.tied_names()
    found = {first: state_dict[name] for name, first in tied.items() if name in state_dict}
    state_dict = {**found, **state_dict}
    places = layout.places(params)
    splits = layout.splits_of(places)
    ours = torch_names([place.name for place in places], splits)
    own = {*ours}
    given = [
        name for name in state_dict if name in own or not (name in tied or is_ignored(name, layout))
    ]
    _, problems = match_names(given, ours)
    problems += _left_out(given, ours, layout)
    arrays, wrong = split_arrays(state_dict, splits)
    problems += wrong + _untied(state_dict, layout)
    values, as_here = [], []
    for place in places:
        if place.name not in arrays:
            continue
        try:
            array = any_array(arrays[place.name])
            if array.shape != place.torch_shape:
                if place.axes == (1, 0) and array.shape == place.shape:
                    as_here.append(place)
                raise ValueError(f"has shape {array.shape}, the parameter {place.torch_shape}")
            values.append(adopted(place.from_torch(array), place.dtype))
        except (TypeError, ValueError) as error:
            problems.append(f"{place.name!r} {error}")
    problems += _undecided(places, as_here)
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(f"params_from_state_dict(): the state dict does not fit:\n  {listed}")
    return in_passing_order(jax.tree.structure(params).unflatten(values), params)


def _left_out(given: Sequence[str], ours: Sequence[str], layout: Layout) -> list[str]:
    """Return what is not in a tree although it is in the model that the layout is of."""
    if callable(layout.rename):
        return []
    known = {*layout.rename.values(), *(name for split in layout.splits for name in split.names)}
    known = {f"{layout.prefix}{name}" for name in known}
    names = [repr(name) for name in given if name in known and name not in ours]
    if not names:
        return []
    return [
        f"{', '.join(names)}: the model of the layout has them, but not this tree: pass all of its "
        "arrays, as nnx.state(model, (nnx.Param, nnx.BatchStat)), or leave them out of the dict"
    ]


def _undecided(places: Sequence[Place], as_here: Sequence[Place]) -> list[str]:
    """Return what matrices that need not be transposed say of those whose shape does not tell."""
    if not as_here:
        return []
    found = ", ".join(repr(place.path) for place in as_here)
    problem = f"{found} have their axes in torch already, as in HF's Conv1D"
    square = [
        repr(place.path)
        for place in places
        if place.axes == (1, 0) and place.shape[0] == place.shape[1]
    ]
    if square:
        problem += f"; {', '.join(square)} are square, so that it is not decided whether they have"
    return [
        f"{problem}: name them in layouts.flax_nnx(conv1d=[...], linear=[...]), or change permute"
    ]


def _untied(state_dict: Mapping[str, Any], layout: Layout) -> list[str]:
    """Return the tied names whose arrays differ."""
    problems = []
    for second, first in layout.tied_names().items():
        if second in state_dict and state_dict[first] is not state_dict[second]:
            one, other = (np.asarray(any_array(state_dict[name])) for name in (first, second))
            if one.dtype != other.dtype or not np.array_equal(_bytes(one), _bytes(other)):
                problems.append(f"{second!r} is not {first!r}, to which the layout ties it")
    return problems


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def params_to_state_dict(
    params: Any,
    *,
    prefix: str = "",
    layout: Layout = Layout(),  # noqa: B008 (immutable)
) -> dict[str, jax.Array]:
    """Return the parameters by torch's names, with torch's axes: what torch's modules load.

    Args:
        params: a tree of arrays.
        prefix: as for `params_from_state_dict`.
        layout: as for `params_from_state_dict`, whose inverse this is.

    Examples:
        >>> import jax.numpy as jnp, torchwise
        >>> layout = torchwise.Layout({"kernel": "weight"}, {"kernel": (1, 0)})
        >>> saved = torchwise.params_to_state_dict({"kernel": jnp.ones((3, 2))}, layout=layout)
        >>> saved["weight"].shape
        (2, 3)
    """
    layout = layout._replace(prefix=f"{prefix}{layout.prefix}")
    places = layout.places(params)
    leaves = jax.tree.leaves(params)
    arrays = {
        places[index].name: places[index].to_torch(jnp.asarray(leaves[index]))
        for index in passing_order(params)
    }
    arrays = join_arrays(arrays, layout.splits_of(places))
    names = layout.tied_names()
    tied = {second: arrays[first] for second, first in names.items() if first in arrays}
    return {**arrays, **tied}
