"""The layout of a model of Flax NNX."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torchwise.layouts.flattening import Neighbor, Shapes, in_sequence
from torchwise.layouts.flax import layout_of
from torchwise.layouts.flax_layers import WHOLE, kind
from torchwise.layouts.layer import Layer, layers_of
from torchwise.layouts.naming import Names
from torchwise.layouts.refusals import require_modules
from torchwise.layouts.walk import arrays_of
from torchwise.state_dict.layout import Layout

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def flax_nnx(
    model: Any,
    *,
    modules: Mapping[str, str] = _NOTHING,
    conv1d: Sequence[str] = (),
    linear: Sequence[str] = (),
    flattened: Shapes | None = _NOTHING,
    unflattened: Shapes = _NOTHING,
    tied: Mapping[str, str] = _NOTHING,
) -> Layout:
    """Return the layout of a Flax NNX model for torch's counterparts of its layers.

    The types of the modules decide: the kernel of an `nnx.Linear` is torch's `weight`, transposed,
    that of an `nnx.Conv` goes from (out, in, *window) to (*window, in, out), statistics of an
    `nnx.BatchNorm` are `running_mean` and `running_var`. What a module of your own has keeps its
    name and its axes. The layers are listed in the documentation, under Models.

    The layout is that of all arrays: for `nnx.state(model)`, for parts of it, as
    `nnx.state(model, nnx.Param)`, and for both as pure dicts.

    Args:
        model: the module. A state does not say which types its modules have.
        modules: torch's names of modules, by their dotted paths here, where they differ:
            `{"layers": "h", "cells.1": "lstm.*_l1"}`. The star is where the array's name goes.
        conv1d: patterns of the paths of `nnx.Linear` layers whose kernels torch has as they are
            here, as HF's `Conv1D` in GPT-2. Every square kernel must then be named here or in
            `linear`, since its shape does not tell.
        linear: patterns of the paths of those that torch has transposed.
        flattened: shapes of the features of a linear layer or norm before they are flattened here,
            by paths or patterns: `{"head": (5, 5, 16)}`, channels last. Features that are not named
            are no images, or the model has them in torch's order: (channels, height, width). None
            says that of all.
        unflattened: shapes of what is made here of the outputs of a linear layer, likewise.
        tied: see `Layout`.

    Raises:
        TypeError: for what holds no module: a state, a dict of arrays, a class, what `nnx.split`
            returns, a model of another library.
        ValueError: naming the layers that torch does not have or has in another way; linear layers
            and norms that may be next to a convolution, by the numbers of their features, where
            `flattened` and `unflattened` say nothing (what is before and behind a layer is known in
            a `Sequential` alone); what is undecided; what is said of modules that are not there.

    Examples:
        >>> import torchwise
        >>> from flax import nnx
        >>> torchwise.layouts.flax_nnx(nnx.Linear(3, 2, rngs=nnx.Rngs(0))).rename
        {'bias': 'bias', 'kernel': 'weight'}
    """
    arrays = arrays_of(model)
    require_modules("flax_nnx", model, arrays)
    names = Names(modules)

    def whole(kind: str, path: str) -> bool:
        return kind in WHOLE and not names.mentions_inside(path)

    layers = layers_of(arrays, kind, whole)
    return layout_of(
        "flax_nnx",
        layers,
        _in_sequentials(layers),
        names,
        conv1d=conv1d,
        linear=linear,
        flattened=flattened,
        unflattened=unflattened,
        tied=tied,
    )


def _in_sequentials(layers: Sequence[Layer]) -> dict[str, Neighbor]:
    """Return the neighbors of layers that stand in a Sequential themselves.

    Attributes have no order: `nnx.merge` sorts them.
    """
    found: dict[str, Neighbor] = {}
    paths = {layer.keys[:-1] for layer in layers if layer.keys and layer.keys[-1].isdigit()}
    for path in paths:
        if any(
            len(layer.keys) > len(path) + 1 and layer.keys[: len(path)] == path for layer in layers
        ):
            continue  # other modules in it, of which the last layer is not known
        own = [layer for layer in layers if layer.keys[:-1] == path]
        own.sort(key=lambda layer: int(layer.keys[-1]))
        found |= in_sequence(own, len(own) == len(layers))
    return found
