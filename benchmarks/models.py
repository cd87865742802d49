"""Two networks, written once: torch and JAX differ in the four operations of `Ops` alone."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Params = dict[str, Any]


class Ops(NamedTuple):
    """What a library calls its own, fused where it has it fused.

    Attributes:
        gelu: the tanh form.
        layer_norm: of the last axis; (x, weight, bias).
        attention: causal; (query, key, value), each (batch, time, heads, size).
        cross_entropy: the mean over rows; (logits (rows, classes), labels (rows,)).
    """

    gelu: Callable[..., Any]
    layer_norm: Callable[..., Any]
    attention: Callable[..., Any]
    cross_entropy: Callable[..., Any]


class Model(NamedTuple):
    """A network with a batch for it.

    Attributes:
        name: in tables.
        loss: (ops, params, inputs, labels) -> loss.
        params: float32, on the host.
        inputs: float32 images, or integer tokens.
        labels: integers.
    """

    name: str
    loss: Callable[..., Any]
    params: dict[str, np.ndarray]
    inputs: np.ndarray
    labels: np.ndarray


class Size(NamedTuple):
    """How large both networks are."""

    width: int
    layers: int
    batch: int
    time: int
    vocabulary: int


FULL = Size(width=256, layers=4, batch=8, time=128, vocabulary=4096)
QUICK = Size(width=16, layers=1, batch=2, time=8, vocabulary=32)
HEADS = 4
_CLASSES = 10


def mlp(size: Size) -> Model:
    """Return a multilayer perceptron for images of 28 x 28."""
    generator = np.random.default_rng(0)
    widths = [784, *[4 * size.width] * 2, _CLASSES]
    params = {}
    for layer, shape in enumerate(itertools.pairwise(widths)):
        params[f"{layer}.weight"] = _normal(generator, shape)
        params[f"{layer}.bias"] = np.zeros(shape[1], np.float32)
    rows = size.batch * 16
    images = generator.normal(size=(rows, 784)).astype(np.float32)
    return Model("MLP", _mlp_loss, params, images, generator.integers(0, _CLASSES, rows))


def transformer(size: Size) -> Model:
    """Return a causal language model with norms before each part."""
    generator = np.random.default_rng(0)
    width = size.width
    params = {
        "tokens": _normal(generator, (size.vocabulary, width)),
        "positions": _normal(generator, (size.time, width)),
        **_norm("final", width),
    }
    for layer in range(size.layers):
        params |= _norm(f"{layer}.norm1", width) | _norm(f"{layer}.norm2", width)
        for name, into, out in (("qkv", 1, 3), ("out", 1, 1), ("up", 1, 4), ("down", 4, 1)):
            params[f"{layer}.{name}.weight"] = _normal(generator, (into * width, out * width))
            params[f"{layer}.{name}.bias"] = np.zeros(out * width, np.float32)
    text = generator.integers(0, size.vocabulary, (size.batch, size.time + 1))
    return Model("transformer", _transformer_loss, params, text[:, :-1], text[:, 1:])


def _mlp_loss(ops: Ops, params: Params, images: Any, labels: Any) -> Any:
    x = ops.gelu(_linear(params, "0", images))
    x = ops.gelu(_linear(params, "1", x))
    return ops.cross_entropy(_linear(params, "2", x), labels)


def _transformer_loss(ops: Ops, params: Params, tokens: Any, labels: Any) -> Any:
    batch, time = tokens.shape
    x = params["tokens"][tokens] + params["positions"]
    layers = sum(name.endswith("qkv.bias") for name in params)
    for layer in map(str, range(layers)):
        qkv = _linear(params, f"{layer}.qkv", _normed(ops, params, f"{layer}.norm1", x))
        qkv = qkv.reshape(batch, time, 3, HEADS, -1)
        mixed = ops.attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        x = x + _linear(params, f"{layer}.out", mixed.reshape(*x.shape))
        inner = ops.gelu(_linear(params, f"{layer}.up", _normed(ops, params, f"{layer}.norm2", x)))
        x = x + _linear(params, f"{layer}.down", inner)
    logits = _normed(ops, params, "final", x) @ params["tokens"].T
    return ops.cross_entropy(logits.reshape(batch * time, -1), labels.reshape(-1))


def _linear(params: Params, name: str, x: Any) -> Any:
    return x @ params[f"{name}.weight"] + params[f"{name}.bias"]


def _normed(ops: Ops, params: Params, name: str, x: Any) -> Any:
    return ops.layer_norm(x, params[f"{name}.weight"], params[f"{name}.bias"])


def _norm(name: str, width: int) -> dict[str, np.ndarray]:
    return {
        f"{name}.weight": np.ones(width, np.float32),
        f"{name}.bias": np.zeros(width, np.float32),
    }


def _normal(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return generator.normal(0, shape[0] ** -0.5, shape).astype(np.float32)
