"""The layout of a model of Equinox."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torchwise.layouts.equinox_layers import WHOLE, counterpart, kind
from torchwise.layouts.equinox_statistics import indices, refuse_states, statistics
from torchwise.layouts.flax import assembled
from torchwise.layouts.layer import UndescribedError, layers_of
from torchwise.layouts.naming import Names
from torchwise.layouts.refusals import require_modules
from torchwise.layouts.walk import arrays_of
from torchwise.state_dict.layout import Layout

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def equinox(
    model: Any,
    state: Any = None,
    *,
    modules: Mapping[str, str] = _NOTHING,
    tied: Mapping[str, str] = _NOTHING,
) -> Layout:
    """Return the layout of an Equinox model for torch's counterparts of its layers.

    Equinox has torch's names and axes, but for the axes of length 1 behind a convolution's bias,
    a `Sequential`, whose modules have numbers for names in torch, transposed convolutions,
    attention, cells and statistics. The layers are listed in the documentation, under Models.

    Args:
        model: the module, or a part of it from `eqx.filter` or `eqx.partition`.
        state: its `eqx.nn.State`, if it has one. The layout is then that of the pair
            `(model, state)`, too, where statistics of `eqx.nn.BatchNorm` are torch's buffers.
        modules: torch's names of modules, by their dotted paths here, where they differ:
            `{"cell": "lstm.*_l0", "shared.pytree.0": "wte"}`. The star is where the array's name
            goes.
        tied: see `Layout`.

    Raises:
        TypeError: for what holds no module, as a state or a dict of arrays, for a model of another
            library, for a `State` in the place of the model or in it, and for a state that is none.
        ValueError: naming the layers that torch does not have or has in another way, and what is
            said of modules that are not there.

    Examples:
        >>> import equinox as eqx, jax, torchwise
        >>> linear = eqx.nn.Linear(3, 2, key=jax.random.key(0))
        >>> torchwise.layouts.equinox(linear).rename
        {'weight': 'weight', 'bias': 'bias'}
    """
    names = Names(modules)

    def whole(kind: str, path: str) -> bool:
        return kind in WHOLE and not names.mentions_inside(path)

    found_arrays = arrays_of(model)
    require_modules("equinox", model, found_arrays)
    refuse_states(model, state, found_arrays)
    inside = [f"{path}." for path in indices(model)]
    arrays = [array for array in found_arrays if not array.path.startswith((*inside,))]
    found, problems = [], []
    for layer in layers_of(arrays, kind, whole):
        try:
            found.append((layer, counterpart(layer)))
        except UndescribedError as error:
            problems.append(f"{layer.kind} at {layer.path!r} {error}".rstrip())
    if problems:
        raise ValueError(f"equinox(): no layout of torch is known for {', '.join(problems)}")
    layout = assembled("equinox", found, names, tied)
    layout = layout._replace(ignore=("num_batches_tracked", "*.num_batches_tracked"))
    return layout if state is None else statistics(layout, model, state, names)
