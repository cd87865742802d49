"""The order of features that were pixels: torch flattens channels first, Flax channels last."""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torchwise.layouts.layer import Here, Layer, UndescribedError
from torchwise.state_dict.layout import Rearrangement

# They keep the features that they get.
_NORMS = ("BatchNorm", "LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm")
_KEEP = (*_NORMS, "PReLU")
_CONVOLUTIONS = ("Conv", "ConvTranspose")
Shapes = Mapping[str, tuple[int, ...] | None]
Neighbor = tuple[Layer | None, Layer | None]
Neighbors = Mapping[str, Neighbor]


def in_sequence(layers: Sequence[Layer], whole: bool) -> dict[str, Neighbor]:
    """Return the neighbors of layers that are called one after the other.

    Args:
        layers: in their order.
        whole: whether they are the whole model, so that nothing is behind the last.
    """
    found: dict[str, Neighbor] = {}
    end = Layer("", None, (), (), {}) if whole else None
    own = [layer for layer in layers if layer.kind]
    for index, layer in enumerate(own):
        before = (one for one in reversed(own[:index]) if one.kind not in _KEEP)
        behind = (one for one in own[index + 1 :] if one.kind not in _KEEP)
        found[layer.path] = next(before, None), next(behind, end)
    return found


class Order(NamedTuple):
    """Shapes that a layer's features had, or will have, without the batch; channels last."""

    inputs: tuple[int, ...] | None = None
    outputs: tuple[int, ...] | None = None


def orders(
    layers: Sequence[Layer], neighbors: Neighbors, flattened: Shapes | None, unflattened: Shapes
) -> dict[str, Order]:
    """Return the order of each layer whose features were flattened, or are to be unflattened.

    Args:
        layers: of the model.
        neighbors: the layers before and behind a layer by its path, but for norms, where known.
        flattened: shapes before flattening, by paths or patterns; None: as torch has it. None
            altogether says that of all layers.
        unflattened: shapes of what is made of the outputs, likewise.

    Raises:
        UndescribedError: naming layers of which nothing is said, and that may stand behind or
            before a convolution; or what is said of layers that are not there.
    """
    if flattened is None:
        flattened = unflattened = {"*": None}
    found: dict[str, Order] = {}
    undecided: dict[str, list[str]] = {"flattened": [], "unflattened": []}
    unused = {*flattened, *unflattened} - {"*"}
    known = [layer for layer in layers if layer.kind in ("Linear", *_NORMS)]
    for layer in known:
        inputs, key = _said(layer, flattened)
        outputs, other = _said(layer, unflattened)
        unused -= {key, other}
        before, behind = neighbors.get(layer.path, (None, None))
        if key is None and _may_be_flattened(layer, layers, before):
            undecided["flattened"].append(f"{layer.path!r}: shape")
        linear = layer.kind == "Linear"
        if other is None and linear and _may_be_unflattened(layer, layers, behind):
            undecided["unflattened"].append(f"{layer.path!r}: shape")
        sizes = _sizes(layer)
        for shape, size, said in (
            (inputs, sizes[0], "flattened"),
            (outputs, sizes[1], "unflattened"),
        ):
            if shape is not None and math.prod(shape) != size:
                raise UndescribedError(
                    f"{said}= has the shape {shape} for {layer.path!r}, which has {size} features"
                )
        if inputs or outputs:
            found[layer.path] = Order(inputs, outputs)
    if unused:
        raise UndescribedError(
            f"flattened= or unflattened= has {', '.join(map(repr, sorted(unused)))}, where the "
            "model has no linear layer and no norm"
        )
    listed = [f"{key}={{{', '.join(paths)}}}" for key, paths in undecided.items() if paths]
    if listed:
        raise UndescribedError(
            "features next to convolutions, which torch flattens in the order (channels, height, "
            "width) and Flax in the order (height, width, channels). Pass the shapes that they "
            "have as images here, as (height, width, channels), or None for features that are no "
            f"images or have torch's order: {', '.join(listed)}; or flattened=None, if that is so "
            "of all"
        )
    return found


def reordered(layer: Layer, name: str, here: Here, order: Order) -> Here:
    """Return where an array is with its features in torch's order."""
    if layer.kind != "Linear":
        return here._replace(axes=_vector(order.inputs)) if order.inputs else here
    if name == "bias":
        return here._replace(axes=_vector(order.outputs)) if order.outputs else here
    inside, outside = layer.shape(name)
    ours_in, ours_out = order.inputs or (inside,), order.outputs or (outside,)
    torch_in, torch_out = _channels_first(ours_in), _channels_first(ours_out)
    first = len(torch_out)
    axes = (
        *(axis + first for axis in _channels_last(len(torch_in))),
        *_channels_last(len(torch_out)),
    )
    return here._replace(axes=Rearrangement((outside, inside), (*torch_out, *torch_in), axes))


def _vector(shape: tuple[int, ...]) -> Rearrangement:
    return Rearrangement((math.prod(shape),), _channels_first(shape), _channels_last(len(shape)))


def _channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[-1], *shape[:-1])


def _channels_last(rank: int) -> tuple[int, ...]:
    return (*range(1, rank), 0)


def _said(layer: Layer, shapes: Shapes) -> tuple[tuple[int, ...] | None, str | None]:
    """Return what is said of a layer, and under which key."""
    for key, shape in shapes.items():
        if layer.path == key or fnmatch.fnmatchcase(layer.path, key):
            return shape, key
    return None, None


def _sizes(layer: Layer) -> tuple[int, int]:
    """Return how many features go in and come out; of convolutions the channels."""
    if "kernel" not in layer.arrays:
        size = next((one.shape[-1] for one in layer.arrays.values() if one.shape), 0)
        return size, size
    *_, inside, outside = layer.shape("kernel")
    swapped = layer.kind == "ConvTranspose" and layer.owner.transpose_kernel
    return (outside, inside) if swapped else (inside, outside)


def _may_be_flattened(layer: Layer, layers: Sequence[Layer], before: Layer | None) -> bool:
    """Whether features may be the pixels of a convolution: not those of the layer before."""
    size = _sizes(layer)[0]
    if before is not None and _features(before) == size:
        return False
    channels = {_sizes(one)[1] for one in layers if one.kind in _CONVOLUTIONS}
    return any(_several(size, number) for number in channels)


def _may_be_unflattened(layer: Layer, layers: Sequence[Layer], behind: Layer | None) -> bool:
    """Whether features may become the pixels of a convolution: not if another layer is behind."""
    others = layers if behind is None else [behind]
    convolutions = [one for one in others if one.kind in _CONVOLUTIONS]
    return any(_several(_sizes(layer)[1], _channels_in(one)) for one in convolutions)


def _channels_in(layer: Layer) -> int:
    return _sizes(layer)[0] * getattr(layer.owner, "feature_group_count", 1)


def _features(layer: Layer) -> int:
    """Return how many features a layer gives."""
    if "out.kernel" in layer.arrays:
        return layer.shape("out.kernel")[-1]
    return _sizes(layer)[1]


def _several(size: int, channels: int) -> bool:
    """Whether so many features may be several pixels of so many channels, in an order."""
    return channels > 1 and size > channels and size % channels == 0
