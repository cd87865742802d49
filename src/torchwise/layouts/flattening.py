"""The order of features that were pixels: torch flattens channels first, Flax channels last."""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torchwise.layouts.flax_layers import outputs_of
from torchwise.layouts.layer import Here, Layer, UndescribedError
from torchwise.state_dict.layout import Rearrangement

# They keep the features that they get.
_NORMS = ("BatchNorm", "LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm")
_KEEP = (*_NORMS, "PReLU")
_LINEAR = ("Linear", "LinearGeneral")
_CONVOLUTIONS = ("Conv", "ConvTranspose")
Shapes = Mapping[str, tuple[int, ...]]
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
        flattened: shapes before flattening, by paths or patterns; None: there are none.
        unflattened: shapes of what is made of the outputs, likewise.

    Raises:
        UndescribedError: naming layers that may stand behind or before a convolution, if nothing is
            said; or what is said of layers that are not there.
    """
    known = [layer for layer in layers if layer.kind in (*_LINEAR, *_NORMS)]
    if not flattened and not unflattened:
        if flattened is not None:
            _refuse_undecided(known, layers, neighbors)
        return {}
    found: dict[str, Order] = {}
    unused = {*(flattened or {}), *unflattened}
    for layer in known:
        order = Order()
        for said, shapes in (("inputs", flattened or {}), ("outputs", unflattened)):
            if said == "outputs" and layer.kind not in _LINEAR:
                continue
            key = next((key for key in shapes if fnmatch.fnmatchcase(layer.path, key)), None)
            unused.discard(key)
            if key is not None:
                size = _sizes(layer)[said == "outputs"]
                order = order._replace(**{said: _checked(layer, size, tuple(shapes[key]))})
        if any(order):
            found[layer.path] = order
    if unused:
        raise UndescribedError(
            f"flattened= or unflattened= has {', '.join(map(repr, sorted(unused)))}, where the "
            "model has no linear layer and no norm"
        )
    return found


def _checked(layer: Layer, size: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    if math.prod(shape) != size:
        raise UndescribedError(
            f"{layer.path!r} has {size} features, which the shape {shape} does not have; where "
            "others are beside them, flatten in torch's order in the model, and leave it out"
        )
    return shape


def _refuse_undecided(
    known: Sequence[Layer], layers: Sequence[Layer], neighbors: Neighbors
) -> None:
    said: dict[str, list[str]] = {"flattened": [], "unflattened": []}
    for layer in known:
        before, behind = neighbors.get(layer.path, (None, None))
        if _may_be_flattened(layer, layers, before):
            said["flattened"].append(f"{layer.path!r}: shape")
        if layer.kind in _LINEAR and _may_be_unflattened(layer, layers, behind):
            said["unflattened"].append(f"{layer.path!r}: shape")
    listed = [f"{key}={{{', '.join(paths)}}}" for key, paths in said.items() if paths]
    if listed:
        raise UndescribedError(
            "torch flattens images in the order (channels, height, width), and Flax in the order "
            "(height, width, channels). These features may have been images, or become some: "
            f"{', '.join(listed)}. Pass the shapes, as (height, width, channels), of those that "
            "are; or flattened=None, if none are, or the model keeps torch's order itself"
        )


def reordered(layer: Layer, name: str, here: Here, order: Order) -> Here:
    """Return where an array is with its features in torch's order."""
    if layer.kind not in _LINEAR:
        return here._replace(axes=_vector(order.inputs)) if order.inputs else here
    if name == "bias":
        return here._replace(axes=_vector(order.outputs)) if order.outputs else here
    if name != "kernel":
        return here
    inside, outside = _sizes(layer)
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


def _sizes(layer: Layer) -> tuple[int, int]:
    """Return how many features go in and come out; of convolutions the channels."""
    if "kernel" not in layer.arrays:
        size = next((one.shape[-1] for one in layer.arrays.values() if one.shape), 0)
        return size, size
    if layer.kind in _LINEAR:
        shape, first = layer.shape("kernel"), -outputs_of(layer)
        return math.prod(shape[:first]), math.prod(shape[first:])
    *_, inside, outside = layer.shape("kernel")
    swapped = layer.kind == "ConvTranspose" and layer.owner.transpose_kernel
    return (outside, inside) if swapped else (inside, outside)


def _may_be_flattened(layer: Layer, layers: Sequence[Layer], before: Layer | None) -> bool:
    """Whether features may be the pixels of a convolution: not those of the layer before."""
    size = _sizes(layer)[0]
    if before is not None and _features(before) == size:
        return False
    channels = {_sizes(one)[1] for one in layers if one.kind in _CONVOLUTIONS}
    return any(1 < number < size for number in channels)


def _may_be_unflattened(layer: Layer, layers: Sequence[Layer], behind: Layer | None) -> bool:
    """Whether features may become the pixels of a convolution: not if another layer is behind."""
    others = layers if behind is None else [behind]
    convolutions = [one for one in others if one.kind in _CONVOLUTIONS]
    size, channels = _sizes(layer)[1], {*map(_channels_in, convolutions)}
    return any(1 < number < size and size % number == 0 for number in channels)


def _channels_in(layer: Layer) -> int:
    return _sizes(layer)[0] * getattr(layer.owner, "feature_group_count", 1)


def _features(layer: Layer) -> int:
    """Return how many features a layer gives."""
    if "out.kernel" in layer.arrays:
        return layer.shape("out.kernel")[-1]
    return _sizes(layer)[1]
