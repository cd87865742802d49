"""Ready-made layouts: how torch names and arranges the arrays of other libraries' layers."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from torchwise.state_dict.layout import Axes, Layout
from torchwise.trees import path_name

_NNX_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
_NNX_OTHERS = {"ConvTranspose", "LinearGeneral", "Einsum", "MultiHeadAttention"}


def flax_nnx(model: Any) -> Layout:
    """Return the layout of a Flax NNX model for torch's counterparts of its layers.

    `kernel`, `scale` and `embedding` are torch's `weight`; kernels of Linear are transposed and
    those of Conv go from (out, in, *window) to (*window, in, out). Statistics of BatchNorm are
    `running_mean` and `running_var`; torch's count of batches has no place. The modules of a
    `Sequential` have numbers for names, as in torch.

    Args:
        model: the module, or its state: `nnx.state(model, nnx.Param)`, also as a pure dict. A state
            does not tell a Sequential's `layers` from others, nor which kernels are Linear's.

    Raises:
        ValueError: naming the modules whose kernels torch keeps in another form than transposed.

    Examples:
        >>> import torchwise
        >>> from flax import nnx
        >>> torchwise.layouts.flax_nnx(nnx.Linear(3, 2, rngs=nnx.Rngs(0))).rename
        {'bias': 'bias', 'kernel': 'weight'}
    """
    rename: dict[str, str] = {}
    permute: dict[str, Axes] = {}
    problems = []
    for path, keys, owners, leaf in _leaves(model):
        if owners and type(owners[-1]).__name__ in _NNX_OTHERS:
            problems.append(f"{type(owners[-1]).__name__} at {'.'.join(keys[:-1])!r}")
        *outer, last = _torch_keys(keys, owners)
        name = ".".join([*outer, _NNX_NAMES.get(last, last)])
        rename[path], rank = name, jnp.ndim(leaf)
        if last == "kernel" and rank >= 2:
            permute[path] = (*range(2, rank), 1, 0)
    if problems:
        raise ValueError(f"flax_nnx(): no layout of torch is known for {', '.join(problems)}")
    return Layout(rename, permute, ignore=("num_batches_tracked", "*.num_batches_tracked"))


def equinox(model: Any) -> Layout:
    """Return the layout of an Equinox model for torch's counterparts of its layers.

    Equinox has torch's names and axes, but for the axes of length 1 behind a convolution's bias,
    and a `Sequential`, whose modules have numbers for names in torch.

    Args:
        model: the module, or a part of it from `eqx.filter` or `eqx.partition`.

    Raises:
        ValueError: naming transposed convolutions, whose weights are arranged in another way.

    Examples:
        >>> import equinox as eqx, jax, torchwise
        >>> linear = eqx.nn.Linear(3, 2, key=jax.random.key(0))
        >>> torchwise.layouts.equinox(linear).rename
        {'weight': 'weight', 'bias': 'bias'}
    """
    rename: dict[str, str] = {}
    permute: dict[str, Axes] = {}
    problems = []
    for path, keys, owners, leaf in _leaves(model):
        if any(kind.__name__ == "ConvTranspose" for kind in type(owners[-1]).__mro__):
            problems.append(f"{type(owners[-1]).__name__} at {'.'.join(keys[:-1])!r}")
        rename[path] = ".".join(_torch_keys(keys, owners))
        weight = jnp.ndim(getattr(owners[-1], "weight", 0.0))
        if keys[-1] == "bias" and weight == jnp.ndim(leaf) + 1 >= 3:
            permute[path] = (0, *[None] * (weight - 2))
    if problems:
        raise ValueError(f"equinox(): no layout of torch is known for {', '.join(problems)}")
    return Layout(rename, permute)


def _leaves(model: Any) -> Iterator[tuple[str, list[str], list[Any], Any]]:
    """Yield for every array its path, keys, the nodes that they are looked up in, and the array."""
    for path, leaf in jax.tree.leaves_with_path(model):
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            continue
        keys = [path_name((key,)) for key in path]
        owners = list(itertools.accumulate(path[:-1], _child, initial=model))
        if path_name(path) != ".".join(keys):  # without the key inside of an nnx variable
            keys, owners = keys[:-1], owners[:-1]
        yield path_name(path), keys, owners, leaf


def _child(node: Any, key: Any) -> Any:
    if isinstance(key, jax.tree_util.GetAttrKey):
        return getattr(node, key.name)
    return node[key.idx if isinstance(key, jax.tree_util.SequenceKey) else key.key]


def _torch_keys(keys: list[str], owners: list[Any]) -> list[str]:
    """Leave out the attribute in which a Sequential keeps its modules."""
    return [
        key
        for key, owner in zip(keys, owners)
        if not (key == "layers" and type(owner).__name__ == "Sequential")
    ]
