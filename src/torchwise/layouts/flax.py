"""The layout of a model of Flax, made of its layers."""

import fnmatch
from collections.abc import Mapping, Sequence

from torchwise.layouts.flattening import Neighbors, Order, Shapes, orders, reordered
from torchwise.layouts.flax_layers import counterpart
from torchwise.layouts.layer import Counterpart, Here, Layer, UndescribedError
from torchwise.layouts.naming import Names
from torchwise.state_dict.layout import Axes, Layout, Rearrangement
from torchwise.state_dict.splits import Split


def layout_of(
    call: str,
    layers: Sequence[Layer],
    neighbors: Neighbors,
    names: Names,
    *,
    conv1d: Sequence[str],
    linear: Sequence[str],
    flattened: Shapes | None,
    unflattened: Shapes,
    tied: Mapping[str, str],
) -> Layout:
    """Return the layout of layers.

    Raises:
        ValueError: naming the layers that torch does not have, or that are undecided.
    """
    try:
        _refuse_undecided(layers, conv1d, linear)
        order = orders(layers, neighbors, flattened, unflattened)
    except UndescribedError as error:
        raise ValueError(f"{call}(): {error}") from None
    found, problems = [], []
    for layer in layers:
        try:
            found.append((layer, _here(layer, order.get(layer.path), conv1d)))
        except UndescribedError as error:
            problems.append(f"{layer.kind} at {layer.path!r} {error}".rstrip())
    if problems:
        raise ValueError(f"{call}(): no layout of torch is known for {', '.join(problems)}")
    ignore = ("num_batches_tracked", "*.num_batches_tracked")
    return assembled(call, found, names, tied)._replace(ignore=ignore)


def assembled(
    call: str,
    found: Sequence[tuple[Layer, Counterpart]],
    names: Names,
    tied: Mapping[str, str],
) -> Layout:
    """Return the layout that has torch's counterparts of layers, under torch's names."""
    rename: dict[str, str] = {}
    permute: dict[str, Axes | Rearrangement] = {}
    splits: list[Split] = []
    for layer, torch in found:
        for name, here in torch.arrays.items():
            path = layer.arrays[name].path
            rename[path] = names.of(layer, here.name)
            if here.axes is not None:
                permute[path] = here.axes
        for split in torch.splits:
            own = [names.of(layer, name) for name in split.names]
            parts = [names.of(layer, name) for name in split.parts]
            splits.append(split._replace(names=tuple(own), parts=tuple(parts)))
    names.refuse_unused(call)
    return Layout(rename, permute, splits=tuple(splits), tied=dict(tied))


def _here(layer: Layer, order: Order | None, conv1d: Sequence[str]) -> Counterpart:
    torch = counterpart(layer)
    if layer.kind == "Linear" and _matches(layer, conv1d):
        return torch._replace(arrays={**torch.arrays, "kernel": Here("weight")})
    if order is None:
        return torch
    arrays = {name: reordered(layer, name, here, order) for name, here in torch.arrays.items()}
    return torch._replace(arrays=arrays)


def _refuse_undecided(
    layers: Sequence[Layer], conv1d: Sequence[str], linear: Sequence[str]
) -> None:
    """Refuse square kernels of which nothing is said, where some are not to be transposed."""
    kernels = [layer for layer in layers if layer.kind == "Linear"]
    for said, patterns in (("conv1d", conv1d), ("linear", linear)):
        for pattern in patterns:
            if not any(_matches(layer, [pattern]) for layer in kernels):
                raise UndescribedError(
                    f"{said}= has {pattern!r}, which is no linear layer of the model"
                )
    if not conv1d:
        return
    undecided = [
        repr(layer.path)
        for layer in kernels
        if len({*layer.shape("kernel")}) == 1 and not _matches(layer, [*conv1d, *linear])
    ]
    if undecided:
        raise UndescribedError(
            f"the kernels of {', '.join(undecided)} are square, so that their shape does not tell "
            "whether torch has them transposed: name each in conv1d= or in linear="
        )


def _matches(layer: Layer, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(layer.path, pattern) for pattern in patterns)
