"""Layers of Flax and Equinox with torch's arrays: the same outputs, there and back."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx

import torchwise
from torch_oracle import to_numpy
from torchwise import layouts

E, HEADS, HIDDEN, LONG = 4, 2, 3, 5  # features, heads of attention, state of cells, steps
KEY = jax.random.key(0)


def rngs():
    return nnx.Rngs(0)


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def channels_first(x):
    return jnp.moveaxis(x, -1, 1)


def over_images(model, x):
    return channels_first(model(jnp.asarray(channels_last(x))))


def each_of_batch(model, x):
    return jax.vmap(model)(x)


class Scan(eqx.Module):
    """A cell of Equinox over a sequence."""

    cell: eqx.Module

    def __call__(self, inputs):
        lstm = isinstance(self.cell, eqx.nn.LSTMCell)
        hidden = jnp.zeros(HIDDEN)
        hidden = (hidden, hidden) if lstm else hidden
        outputs = []
        for one in inputs:
            hidden = self.cell(one, hidden)
            outputs.append(hidden[0] if lstm else hidden)
        return jnp.stack(outputs)


class TiedTorch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = torch.nn.Embedding(LONG, E)
        self.lm_head = torch.nn.Linear(E, LONG, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, x):
        return self.lm_head(x)


class TiedNnx(nnx.Module):
    def __init__(self):
        self.wte = nnx.Embed(LONG, E, rngs=rngs())

    def __call__(self, x):
        return self.wte.attend(x)


class TiedEquinox(eqx.Module):
    shared: eqx.nn.Shared

    def __init__(self):
        both = (
            eqx.nn.Embedding(LONG, E, key=KEY),
            eqx.nn.Linear(E, LONG, use_bias=False, key=KEY),
        )
        self.shared = eqx.nn.Shared(both, lambda two: two[1].weight, lambda two: two[0].weight)

    def __call__(self, x):
        return self.shared()[1](x)


def torch_attention(model, x):
    return model(x, x, x)[0]


def plain(model, x):
    return model(x)


def outputs_only(model, x):
    return model(x)[0]


IMAGES, VECTORS, SEQUENCES = (2, E, 5, 6), (2, E), (2, LONG, E)
TIED = {"tied": {"lm_head.weight": "wte.weight"}}


def attention(**options):
    return torch.nn.MultiheadAttention(E, HEADS, batch_first=True, **options)


def lstm():
    return torch.nn.LSTM(E, HIDDEN, batch_first=True)


def gru():
    return torch.nn.GRU(E, HIDDEN, batch_first=True)


def without_hidden_bias(module):
    """`nnx.GRUCell` does not have this bias."""
    with torch.no_grad():
        module.bias_hh_l0[2 * HIDDEN :] = 0
    return module


def weight_normed():
    module = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(E, 3))
    with torch.no_grad():
        module.parametrizations.weight.original0 *= 2
    return module


def group_norm(**options):
    return torch.nn.GroupNorm(2, E, **options)


def eqx_attention(**options):
    biases = {f"use_{part}_bias": True for part in ("query", "key", "value", "output")}
    return eqx.nn.MultiheadAttention(HEADS, E, **biases, **options, key=KEY)


NNX = {
    "linear": (lambda: torch.nn.Linear(E, 3), lambda: nnx.Linear(E, 3, rngs=rngs())),
    "conv": (
        lambda: torch.nn.Conv2d(E, 6, (2, 3), groups=2),
        lambda: nnx.Conv(E, 6, (2, 3), padding="VALID", feature_group_count=2, rngs=rngs()),
        IMAGES,
        over_images,
    ),
    "conv transpose": (
        lambda: torch.nn.ConvTranspose2d(E, 3, (2, 3), stride=2),
        lambda: nnx.ConvTranspose(E, 3, (2, 3), strides=2, padding="VALID", rngs=rngs()),
        IMAGES,
        over_images,
    ),
    "conv transpose with the kernel of a conv": (
        lambda: torch.nn.ConvTranspose1d(E, 3, 2),
        lambda: nnx.ConvTranspose(E, 3, (2,), padding="VALID", transpose_kernel=True, rngs=rngs()),
        (2, E, 5),
        over_images,
    ),
    "group norm": (
        group_norm,
        lambda: nnx.GroupNorm(E, 2, epsilon=1e-5, rngs=rngs()),
        IMAGES,
        over_images,
    ),
    "batch norm": (
        lambda: torch.nn.BatchNorm2d(E),
        lambda: nnx.BatchNorm(E, use_running_average=True, rngs=rngs()),
        IMAGES,
        over_images,
    ),
    "prelu": (torch.nn.PReLU, lambda: nnx.PReLU(0.1)),
    "several axes": (
        lambda: torch.nn.Linear(E, 6),
        lambda: nnx.LinearGeneral(E, (2, 3), rngs=rngs()),
        VECTORS,
        lambda model, x: model(x).reshape(len(x), -1),
    ),
    "attention": (
        attention,
        lambda: nnx.MultiHeadAttention(HEADS, E, decode=False, rngs=rngs()),
        SEQUENCES,
        plain,
        torch_attention,
    ),
    "attention without biases": (
        lambda: attention(bias=False),
        lambda: nnx.MultiHeadAttention(HEADS, E, decode=False, use_bias=False, rngs=rngs()),
        SEQUENCES,
        plain,
        torch_attention,
    ),
    "lstm": (
        lstm,
        lambda: nnx.RNN(nnx.LSTMCell(E, HIDDEN, rngs=rngs()), rngs=rngs()),
        SEQUENCES,
        plain,
        outputs_only,
    ),
    "fast lstm": (
        lstm,
        lambda: nnx.RNN(nnx.OptimizedLSTMCell(E, HIDDEN, rngs=rngs()), rngs=rngs()),
        SEQUENCES,
        plain,
        outputs_only,
    ),
    "both directions": (
        lambda: torch.nn.LSTM(E, HIDDEN, batch_first=True, bidirectional=True),
        lambda: nnx.Bidirectional(
            *(nnx.RNN(nnx.OptimizedLSTMCell(E, HIDDEN, rngs=rngs()), rngs=rngs()) for _ in "12"),
            rngs=rngs(),
        ),
        SEQUENCES,
        plain,
        outputs_only,
    ),
    "gru": (
        lambda: without_hidden_bias(gru()),
        lambda: nnx.RNN(nnx.GRUCell(E, HIDDEN, rngs=rngs()), rngs=rngs()),
        SEQUENCES,
        plain,
        outputs_only,
    ),
    "simple": (
        lambda: torch.nn.RNN(E, HIDDEN, batch_first=True),
        lambda: nnx.RNN(nnx.SimpleCell(E, HIDDEN, rngs=rngs()), rngs=rngs()),
        SEQUENCES,
        plain,
        outputs_only,
    ),
    "tied": (TiedTorch, TiedNnx, VECTORS, plain, plain, TIED),
}
LINEN = {
    "attention": (
        attention,
        lambda: linen.MultiHeadDotProductAttention(HEADS),
        SEQUENCES,
        plain,
        torch_attention,
    ),
    "lstm": (
        lstm,
        lambda: linen.RNN(linen.OptimizedLSTMCell(HIDDEN)),
        SEQUENCES,
        plain,
        outputs_only,
        {"modules": {"cell": "*_l0"}},
    ),
    "gru": (
        gru,
        lambda: linen.RNN(linen.GRUCell(HIDDEN)),
        SEQUENCES,
        plain,
        outputs_only,
        {"modules": {"cell": "*_l0"}},
    ),
    "conv and norm": (
        lambda: torch.nn.Sequential(
            torch.nn.ConvTranspose2d(E, 3, 2), torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, 2, 2)
        ).eval(),
        lambda: linen.Sequential(
            [
                linen.ConvTranspose(3, (2, 2), padding="VALID"),
                linen.BatchNorm(use_running_average=True),
                linen.Conv(2, (2, 2), padding="VALID"),
            ]
        ),
        IMAGES,
        over_images,
    ),
}
EQUINOX = {
    "conv transpose": (
        lambda: torch.nn.ConvTranspose2d(
            E, 6, (2, 3), stride=2, padding=1, output_padding=1, groups=2
        ),
        lambda: eqx.nn.ConvTranspose2d(
            E, 6, (2, 3), stride=2, padding=1, output_padding=1, groups=2, key=KEY
        ),
        IMAGES,
        each_of_batch,
    ),
    "group norm": (group_norm, lambda: eqx.nn.GroupNorm(2, E), IMAGES, each_of_batch),
    "prelu": (torch.nn.PReLU, lambda: eqx.nn.PReLU(0.1)),
    "attention": (
        attention,
        eqx_attention,
        SEQUENCES,
        lambda model, x: jax.vmap(lambda one: model(one, one, one))(x),
        torch_attention,
    ),
    "lstm": (
        lstm,
        lambda: Scan(eqx.nn.LSTMCell(E, HIDDEN, key=KEY)),
        SEQUENCES,
        each_of_batch,
        outputs_only,
        {"modules": {"cell": "*_l0"}},
    ),
    "gru": (
        gru,
        lambda: Scan(eqx.nn.GRUCell(E, HIDDEN, key=KEY)),
        SEQUENCES,
        each_of_batch,
        outputs_only,
        {"modules": {"cell": "*_l0"}},
    ),
    "weight norm": (
        weight_normed,
        lambda: eqx.nn.WeightNorm(eqx.nn.Linear(E, 3, key=KEY)),
        VECTORS,
        each_of_batch,
    ),
    "tied": (
        TiedTorch,
        TiedEquinox,
        VECTORS,
        each_of_batch,
        plain,
        {**TIED, "modules": {"shared.pytree.0": "wte"}},
    ),
}


def in_memory(shape):
    """What a model has besides parameters: random keys and their counts."""
    is_key = jnp.issubdtype(shape.dtype, jax.dtypes.prng_key)
    return KEY if is_key else jnp.zeros(shape.shape, shape.dtype)


def of_nnx(make, inputs, options):
    model = nnx.eval_shape(make)
    layout = layouts.flax_nnx(model, **options)
    graph, own, others = nnx.split(model, nnx.Any(nnx.Param, nnx.BatchStat), ...)
    others = jax.tree.map(in_memory, others)

    def build(tree):
        return nnx.merge(graph, tree, jax.tree.map(lambda x: x, others))  # of this trace

    return own, layout, build


def of_linen(make, inputs, options):
    model = make()
    inputs = channels_last(inputs) if inputs.ndim == 4 else inputs
    layout = layouts.flax_linen(model, inputs, **options)
    variables = jax.eval_shape(lambda: model.init(KEY, inputs))
    return variables, layout, lambda tree: lambda x: model.apply(tree, x)


def of_equinox(make, inputs, options):
    model = eqx.filter_eval_shape(make)
    arrays, static = eqx.partition(model, lambda leaf: hasattr(leaf, "shape"))
    layout = layouts.equinox(model, **options)
    return arrays, layout, lambda tree: eqx.combine(tree, static)


# One of each kind; the others are exhaustive.
USUAL = {
    *("nnx conv transpose", "nnx attention", "nnx fast lstm", "nnx gru", "nnx tied"),
    *("equinox conv transpose", "equinox attention", "equinox gru", "equinox weight norm"),
    "linen conv and norm",
}
RARE = (pytest.mark.slow, pytest.mark.exhaustive)
CASES = [
    pytest.param(
        parts,
        case,
        id=f"{library} {name}",
        marks=() if f"{library} {name}" in USUAL else RARE,
    )
    for library, parts, cases in (
        ("nnx", of_nnx, NNX),
        ("linen", of_linen, LINEN),
        ("equinox", of_equinox, EQUINOX),
    )
    for name, case in cases.items()
]


def both_models(parts, case):
    make_torch, make, *rest = case
    shape, call, call_torch, options = [*rest, *(VECTORS, plain, plain, {})[len(rest) :]]
    torch.manual_seed(15)
    theirs = make_torch()
    with torch.no_grad():
        for name, tensor in theirs.state_dict().items():
            if tensor.dtype == torch.float32 and "original0" not in name:
                tensor.copy_(torch.rand(tensor.shape) + 0.1 if "var" in name else tensor + 0.1)
    if make is NNX["gru"][1]:
        without_hidden_bias(theirs)
    inputs = np.random.default_rng(15).normal(size=shape).astype(np.float32)
    tree, layout, build = parts(make, inputs, options)
    with torch.no_grad():
        expected = to_numpy(call_torch(theirs.eval(), torch.from_numpy(inputs)))

    outputs = jax.jit(lambda tree: call(build(tree), jnp.asarray(inputs)))
    return theirs, tree, layout, outputs, expected, (call_torch, inputs)


def assert_near(ours, theirs):
    """Sums of up to a dozen terms in another order: a few roundings of the largest."""
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize(("parts", "case"), CASES)
def test_outputs_are_torchs_there_and_back(parts, case):
    theirs, tree, layout, outputs, expected, (call_torch, inputs) = both_models(parts, case)
    loaded = torchwise.params_from_state_dict(theirs.state_dict(), tree, layout=layout)
    assert_near(outputs(loaded), expected)
    moved = jax.tree.map(lambda x: np.asarray(x) * np.float32(1.25), loaded)
    written = torchwise.params_to_state_dict(moved, layout=layout)
    theirs.load_state_dict({name: torch.tensor(np.array(x)) for name, x in written.items()})
    with torch.no_grad():
        again = to_numpy(call_torch(theirs, torch.from_numpy(inputs)))
    assert_near(outputs(moved), again)
