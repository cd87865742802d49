"""Flax's layers, of NNX and of Linen: what torch has for the arrays of each."""

import math
from collections.abc import Callable
from typing import Any

from torchwise.layouts.attention import flax_attention, general
from torchwise.layouts.layer import Counterpart, Here, Layer, UndescribedError
from torchwise.layouts.recurrent import flax_cell
from torchwise.state_dict.layout import Rearrangement

# Linen's names of NNX's layers.
_SAME = {
    "Dense": "Linear",
    "DenseGeneral": "LinearGeneral",
    "MultiHeadDotProductAttention": "MultiHeadAttention",
    "SelfAttention": "MultiHeadAttention",
}
_CELLS = ("LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleCell")
WHOLE = {"MultiHeadAttention", "WeightNorm", "SpectralNorm", *_CELLS}
_LIBRARIES = ("flax.nnx.nn.", "flax.linen.")
_NO_LAYERS = ("flax.linen.module", "flax.linen.transforms")  # as the class that nn.remat makes


def kind(owner: Any) -> str:
    """Return the name, in NNX, of the layer of Flax that a module is; empty for other modules."""
    for one in type(owner).__mro__:
        if one.__module__.startswith(_LIBRARIES) and one.__module__ not in _NO_LAYERS:
            return _SAME.get(one.__name__, one.__name__)
    return ""


def counterpart(layer: Layer) -> Counterpart:
    """Return what torch has for a layer, but for the order of what was flattened.

    Raises:
        UndescribedError: if torch has no such layer, or it is used in another way.
    """
    if not layer.kind:
        return Counterpart({name: Here(name) for name in layer.arrays})
    describe = _DESCRIBED.get(layer.kind)
    if describe is None:
        raise UndescribedError(_WHY_NOT.get(layer.kind, ""))
    found = describe(layer)
    arrays = {name: found.arrays.get(name, Here(name)) for name in layer.arrays}
    return found._replace(arrays=arrays)


def outputs_of(layer: Layer) -> int:
    """Return how many axes of the kernel of a linear layer are those of the output."""
    features = getattr(layer.owner, "out_features", None) or getattr(layer.owner, "features", None)
    return len(features) if isinstance(features, tuple | list) else 1


def _linear(layer: Layer) -> Counterpart:
    _check_rank(layer, 2)
    return Counterpart({"kernel": Here("weight", (1, 0))})


def _general(layer: Layer) -> Counterpart:
    shape = layer.shape("kernel")
    if getattr(layer.owner, "batch_axis", None) or getattr(layer.owner, "batch_dims", None):
        raise UndescribedError("with a kernel for each entry of a batch")
    arrays = {"kernel": Here("weight", general(shape, outputs_of(layer)))}
    if "bias" in layer.arrays:
        bias = layer.shape("bias")
        axes = tuple(range(len(bias)))
        arrays["bias"] = Here("bias", Rearrangement((math.prod(bias),), bias, axes))
    return Counterpart(arrays)


def _conv(layer: Layer) -> Counterpart:
    rank = _window(layer) + 2
    _check_rank(layer, rank)
    return Counterpart({"kernel": Here("weight", (*range(2, rank), 1, 0))})


def _conv_transpose(layer: Layer) -> Counterpart:
    """The weight in torch is (in, out, *window), and its windows run backwards.

    With `transpose_kernel`, the kernel is that of the Conv whose transpose this is, as in torch.
    """
    rank = _window(layer) + 2
    _check_rank(layer, rank)
    shape = layer.shape("kernel")
    *window, one, other = shape
    if layer.owner.transpose_kernel:
        return Counterpart({"kernel": Here("weight", (*range(2, rank), 1, 0))})
    torch_shape = (one, other, *window)
    axes = (*range(2, rank), 0, 1)
    way = Rearrangement(torch_shape, torch_shape, axes, tuple(range(2, rank)))
    return Counterpart({"kernel": Here("weight", way)})


def _norm(layer: Layer) -> Counterpart:
    return Counterpart({"scale": Here("weight")} if "scale" in layer.arrays else {})


def _batch_norm(layer: Layer) -> Counterpart:
    arrays = {"mean": Here("running_mean"), "var": Here("running_var")}
    arrays = {name: here for name, here in arrays.items() if name in layer.arrays}
    return Counterpart({**_norm(layer).arrays, **arrays})


def _embed(layer: Layer) -> Counterpart:
    return Counterpart({"embedding": Here("weight")})


def _prelu(layer: Layer) -> Counterpart:
    (name,) = layer.arrays
    return Counterpart({name: Here("weight", Rearrangement((1,), (), ()))})


def _window(layer: Layer) -> int:
    size = layer.owner.kernel_size
    return 1 if isinstance(size, int) else len(size)


def _check_rank(layer: Layer, rank: int) -> None:
    if "kernel" not in layer.arrays:
        raise UndescribedError("without a kernel")
    if len(layer.shape("kernel")) != rank:
        raise UndescribedError(
            f"with a kernel of shape {layer.shape('kernel')}, as of several layers in one: torch "
            "has one array for each"
        )


_NORMS = ("LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm")
_DESCRIBED: dict[str, Callable[[Layer], Counterpart]] = {
    "Linear": _linear,
    "LinearGeneral": _general,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "BatchNorm": _batch_norm,
    "Embed": _embed,
    "PReLU": _prelu,
    "MultiHeadAttention": flax_attention,
    **dict.fromkeys(_NORMS, _norm),
    **dict.fromkeys(_CELLS, flax_cell),
}
_WHY_NOT = {
    "WeightNorm": (
        "which overwrites the kernel in every call and does not train its scales: take torch's off "
        "first, by torch.nn.utils.parametrize.remove_parametrizations, and use the layer alone"
    ),
}
