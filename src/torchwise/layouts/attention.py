"""Attention: torch keeps the weights of queries, keys and values in one array."""

import math
from collections.abc import Mapping, Sequence

from torchwise.layouts.layer import Counterpart, Here, Layer
from torchwise.state_dict.layout import Rearrangement
from torchwise.state_dict.splits import Split, joined

_NUMBERS = {"query": 0, "key": 1, "value": 2}


def flax_attention(layer: Layer) -> Counterpart:
    """Return torch's counterpart of a MultiHeadAttention of Flax NNX or Linen."""
    arrays = {}
    for name, one in layer.arrays.items():
        part, _, kind = name.partition(".")
        number = _NUMBERS.get(part)
        if kind == "kernel" and part == "out":
            arrays[name] = Here("out_proj.weight", general(one.shape, 1))
        elif kind == "bias" and part == "out":
            arrays[name] = Here("out_proj.bias")
        elif kind == "kernel" and number is not None:
            arrays[name] = Here(f"in_proj_weight[{number}]", general(one.shape, len(one.shape) - 1))
        elif kind == "bias" and number is not None:
            arrays[name] = Here(f"in_proj_bias[{number}]", _flat(one.shape))
        else:
            arrays[name] = Here(name)
    weights = {part: layer.shape(f"{part}.kernel") for part in _NUMBERS}
    return _joined(
        arrays,
        {part: (math.prod(shape[1:]), shape[0]) for part, shape in weights.items()},
        "query.bias" in layer.arrays,
    )


def equinox_attention(layer: Layer) -> Counterpart:
    """Return torch's counterpart of a MultiheadAttention of Equinox."""
    arrays = {}
    biases = [part for part in _NUMBERS if f"{part}_proj.bias" in layer.arrays]
    for name in layer.arrays:
        part, _, kind = name.partition("_proj.")
        number = _NUMBERS.get(part)
        if part == "output":
            arrays[name] = Here(f"out_proj.{kind}")
        elif number is not None and (kind == "weight" or len(biases) == 3):
            arrays[name] = Here(f"in_proj_{kind}[{number}]")
        else:
            arrays[name] = Here(name)
    weights = {part: layer.shape(f"{part}_proj.weight") for part in _NUMBERS}
    return _joined(arrays, weights, len(biases) == 3)


def general(shape: tuple[int, ...], outputs: int) -> Rearrangement:
    """Return where the numbers of a linear map's weight are in a kernel with axes of heads.

    Args:
        shape: of the kernel: the axes of the input, then those of the output.
        outputs: how many of them are the output's.
    """
    first = len(shape) - outputs
    inside, out = shape[:first], shape[first:]
    axes = (*range(outputs, len(shape)), *range(outputs))
    return Rearrangement((math.prod(out), math.prod(inside)), (*out, *inside), axes)


def _flat(shape: tuple[int, ...]) -> Rearrangement:
    return Rearrangement((math.prod(shape),), shape, tuple(range(len(shape))))


def _joined(
    arrays: dict[str, Here], weights: Mapping[str, Sequence[int]], biased: bool
) -> Counterpart:
    """Join the weights, as torch does if queries, keys and values have as many features."""
    splits: list[Split] = []
    rows = [shape[0] for shape in weights.values()]
    if len({shape[1] for shape in weights.values()}) == 1:
        names = [f"in_proj_weight[{number}]" for number in range(3)]
        splits.append(joined("in_proj_weight", names, rows))
    else:
        own = {f"in_proj_weight[{n}]": f"{letter}_proj_weight" for n, letter in enumerate("qkv")}
        arrays = {
            path: one._replace(name=own.get(one.name, one.name)) for path, one in arrays.items()
        }
    if biased:
        splits.append(
            joined("in_proj_bias", [f"in_proj_bias[{number}]" for number in range(3)], rows)
        )
    return Counterpart(arrays, splits)
