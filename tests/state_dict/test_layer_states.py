"""Optimizer state of layers whose arrays torch has otherwise, and what is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx
from state_dict_tools import assert_same_dict

import torchwise
from distance import same_bits
from torchwise import layouts

KEY = jax.random.key(0)


def rngs():
    return nnx.Rngs(0)


def trained(module, make, *inputs, named=True):
    """Return the state dict of an optimizer of torch after two steps."""
    torch.manual_seed(3)
    optimizer = make(module.named_parameters() if named else module.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        output = module(*(torch.rand(shape) for shape in inputs))
        output = output[0] if isinstance(output, tuple) else output
        (output**2).sum().backward()
        optimizer.step()
    return optimizer.state_dict()


def adam(params):
    return torch.optim.Adam(params, lr=0.01)


def momentum(params):
    return torch.optim.SGD(params, lr=0.01, momentum=0.9)


def nnx_attention():
    return nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs())


def equinox_attention(**options):
    biases = {f"use_{part}_bias": True for part in ("query", "key", "value", "output")}
    return eqx.nn.MultiheadAttention(2, 4, **biases, key=KEY, **options)


def zeros(shapes):
    return jax.tree.map(lambda one: np.zeros(one.shape, one.dtype), shapes)


def params_of(make):
    """Return the parameters of a model and its layout; nothing is compiled for its first values."""
    model = eqx.filter_eval_shape(make)
    if isinstance(model, eqx.Module):
        return zeros(eqx.filter(model, is_array)), layouts.equinox(model)
    model = nnx.eval_shape(make)
    return zeros(nnx.state(model, nnx.Param)), layouts.flax_nnx(model)


def is_array(leaf):
    return hasattr(leaf, "shape")


@pytest.mark.parametrize("model", [nnx_attention, equinox_attention])
@pytest.mark.parametrize("named", [True, False])
def test_the_state_of_joined_weights_is_split_and_joined(model, named):
    theirs = torch.nn.MultiheadAttention(4, 2)
    saved = trained(theirs, adam, (3, 1, 4), (3, 1, 4), (3, 1, 4), named=named)
    params, layout = params_of(model)
    names = [name for name, _ in theirs.named_parameters()]
    options = {"layout": layout, "names": names}
    transform, state = torchwise.from_state_dict(saved, params, **options)
    average = state.states[0].exp_avg
    held = dict(zip(names, (saved["state"][index]["exp_avg"] for index in range(4))))
    # Its rows are placed as those of the parameter itself.
    moved = torchwise.params_from_state_dict(held, params, layout=layout)
    for mine, expected in zip(jax.tree.leaves(average), jax.tree.leaves(moved), strict=True):
        assert same_bits(mine, expected)
    written = torchwise.to_state_dict(transform, state, params, **options)
    assert_same_dict(written, saved)


def test_ids_that_are_names_are_split_and_stay_names():
    params, layout = params_of(lambda: eqx.nn.MultiheadAttention(2, 4, key=KEY))
    names = ["in_proj_weight", "out_proj.weight"]
    group = {"lr": 0.1, "momentum": 0.9, "dampening": 0, "weight_decay": 0, "params": names}
    rows = np.arange(48, dtype=np.float32).reshape(12, 4)
    state = {names[0]: {"momentum_buffer": rows}, names[1]: {"momentum_buffer": rows[:4]}}
    saved = {"state": state, "param_groups": [group]}
    _, loaded = torchwise.from_state_dict(saved, params, layout=layout)
    buffers = loaded.states[0].momentum_buffer
    np.testing.assert_array_equal(buffers.value_proj.weight, rows[8:])


def test_names_are_needed_where_arrays_are_split():
    theirs = torch.nn.MultiheadAttention(4, 2)
    saved = trained(theirs, adam, (3, 1, 4), (3, 1, 4), (3, 1, 4), named=False)
    params, layout = params_of(equinox_attention)
    with pytest.raises(ValueError, match=r"splits 'in_proj_weight' and others: pass names="):
        torchwise.from_state_dict(saved, params, layout=layout)


def test_parts_of_one_parameter_stay_together():
    params, layout = params_of(equinox_attention)
    transform = torchwise.chain(torchwise.adam(lr=0.1), per_parameter_steps=True)
    state = transform.init(params)
    for steps, message in (
        ((1, 0), r"\['in_proj_weight\[1\]'\] have seen no gradient yet"),
        ((2, 1), "have different 'step'"),
    ):
        first, other = map(np.int32, steps)
        counts = jax.tree.map(lambda _, count=first: count, state.step)
        counts = eqx.tree_at(lambda tree: tree.key_proj.weight, counts, other)
        moved = state._replace(step=counts)
        with pytest.raises(ValueError, match=message):
            torchwise.to_state_dict(transform, moved, params, layout=layout)


def test_a_rule_for_whole_matrices_takes_no_parts():
    theirs = torch.nn.MultiheadAttention(4, 2, bias=False)
    weights = torch.optim.Muon([("in_proj_weight", theirs.in_proj_weight)])
    params, layout = params_of(lambda: eqx.nn.MultiheadAttention(2, 4, key=KEY))
    params = eqx.tree_at(lambda tree: tree.output_proj.weight, params, None)
    with pytest.raises(ValueError, match="Muon looks at a whole array at a time"):
        torchwise.from_state_dict(weights.state_dict(), params, layout=layout)
    transform = torchwise.muon(lr=0.1)
    with pytest.raises(ValueError, match="Muon looks at a whole array at a time"):
        torchwise.to_state_dict(transform, transform.init(params), params, layout=layout)


@pytest.mark.parametrize("name", ["Adafactor", "Muon"])
def test_rules_for_rows_and_columns_take_torchs_axes_alone(name):
    """Transposed, a square matrix would get its rows' factors as its columns'."""
    saved = getattr(torch.optim, name)([("weight", torch.nn.Parameter(torch.ones(2, 3)))])
    layout = torchwise.Layout({"kernel": "weight"}, {"kernel": (1, 0)})
    params = {"kernel": jnp.ones((3, 2))}
    message = f"{name} treats rows and columns in different ways"
    with pytest.raises(ValueError, match=message):
        torchwise.from_state_dict(saved.state_dict(), params, layout=layout)
    transform = getattr(torchwise, name.lower())(lr=0.1)
    with pytest.raises(ValueError, match=message):
        torchwise.to_state_dict(transform, transform.init(params), params, layout=layout)


@pytest.mark.parametrize(
    ("theirs", "model"),
    [
        (torch.nn.LSTMCell, lambda: eqx.nn.LSTMCell(2, 3, key=KEY)),
        (torch.nn.GRUCell, lambda: eqx.nn.GRUCell(2, 3, key=KEY)),
        (torch.nn.LSTMCell, lambda: nnx.OptimizedLSTMCell(2, 3, rngs=rngs())),
    ],
)
def test_the_state_of_added_biases_is_refused(theirs, model):
    saved = trained(theirs(2, 3), momentum, (1, 2))
    params, layout = params_of(model)
    message = r"\(\): 'bias_ih', 'bias_hh': torch has two biases"
    with pytest.raises(ValueError, match=f"from_state_dict{message}"):
        torchwise.from_state_dict(saved, params, layout=layout)
    transform = torchwise.sgd(lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match=f"to_state_dict{message}"):
        torchwise.to_state_dict(transform, transform.init(params), params, layout=layout)


def test_a_bias_that_the_gru_of_nnx_does_not_have():
    params, layout = params_of(lambda: nnx.GRUCell(2, 3, rngs=rngs()))
    with pytest.raises(ValueError, match="last 3 numbers of 'bias_hh' are not 0"):
        torchwise.params_from_state_dict(torch.nn.GRUCell(2, 3).state_dict(), params, layout=layout)


class Own(nnx.Module):
    """Attributes that bear the names of Flax's own, in a module that is not Flax's."""

    def __init__(self):
        self.mean = nnx.BatchStat(jnp.zeros(2))
        self.var = nnx.BatchStat(jnp.zeros(3))
        self.scale = nnx.Param(jnp.zeros(4))
        self.embedding = nnx.Param(jnp.zeros((5, 5)))
        self.kernel = nnx.Param(jnp.zeros((2, 2)))
        self.linear = nnx.Linear(2, 2, rngs=rngs())


class Subclass(nnx.Linear):
    """Another name for the same layer."""


def test_types_and_not_names_decide():
    layout = layouts.flax_nnx(nnx.eval_shape(Own))
    own = {"mean", "var", "scale", "embedding", "kernel"}
    assert {path: layout.rename[path] for path in own} == {path: path for path in own}
    assert layout.permute == {"linear.kernel": (1, 0)}
    assert layouts.flax_nnx(nnx.eval_shape(lambda: Subclass(2, 2, rngs=rngs()))).permute == {
        "kernel": (1, 0)
    }


class Block(nnx.Module):
    def __init__(self):
        self.c_attn = nnx.Linear(2, 6, rngs=rngs())
        self.c_proj = nnx.Linear(2, 2, rngs=rngs())
        self.head = nnx.Linear(2, 2, rngs=rngs())


def test_kernels_with_torchs_axes_leave_square_ones_undecided():
    model = nnx.eval_shape(Block)
    params = nnx.state(model, nnx.Param)
    saved = {
        "c_attn.weight": np.arange(12.0).reshape(2, 6),
        "c_attn.bias": np.zeros(6),
        "c_proj.weight": np.arange(4.0).reshape(2, 2),
        "c_proj.bias": np.zeros(2),
        "head.weight": np.arange(4.0).reshape(2, 2),
        "head.bias": np.zeros(2),
    }
    with pytest.raises(ValueError, match=r"(?s)'c_attn\.kernel' have .* Conv1D; 'c_proj\.kernel'"):
        torchwise.params_from_state_dict(saved, params, layout=layouts.flax_nnx(model))
    with pytest.raises(ValueError, match=r"kernels of 'c_proj', 'head' are square"):
        layouts.flax_nnx(model, conv1d=["c_attn"])
    layout = layouts.flax_nnx(model, conv1d=["c_*"], linear=["head"])
    loaded = torchwise.params_from_state_dict(saved, params, layout=layout)
    assert loaded["c_proj"]["kernel"][0, 1] == 1.0
    assert loaded["head"]["kernel"][0, 1] == 2.0
    with pytest.raises(ValueError, match="'nothing', which is no linear layer"):
        layouts.flax_nnx(model, conv1d=["nothing"])


class ThereAndBack(nnx.Module):
    """From images to features, and from features to images."""

    def __init__(self):
        self.conv = nnx.Conv(2, 3, (2, 2), padding="VALID", rngs=rngs())
        self.norm = nnx.LayerNorm(18, epsilon=1e-5, rngs=rngs())
        self.fc = nnx.Linear(18, 5, rngs=rngs())
        self.wide = nnx.Linear(5, 24, rngs=rngs())
        self.again = nnx.ConvTranspose(4, 1, (2, 2), padding="VALID", rngs=rngs())

    def __call__(self, x):
        x = self.norm(self.conv(x).reshape(len(x), -1))
        return self.again(self.wide(self.fc(x)).reshape(-1, 3, 2, 4))


class TorchThereAndBack(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, 2)
        self.norm = torch.nn.LayerNorm(18)
        self.fc, self.wide = torch.nn.Linear(18, 5), torch.nn.Linear(5, 24)
        self.again = torch.nn.ConvTranspose2d(4, 1, 2)

    def forward(self, x):
        x = self.norm(self.conv(x).flatten(1))
        return self.again(self.wide(self.fc(x)).reshape(-1, 4, 3, 2))


SHAPES = {
    "flattened": {"norm": (2, 3, 3), "fc": (2, 3, 3)},
    "unflattened": {"wide": (3, 2, 4)},
}


def test_flattened_features_are_in_torchs_order():
    theirs = TorchThereAndBack()
    with torch.no_grad():
        theirs.norm.weight.uniform_()
        theirs.norm.bias.uniform_()
    saved = trained(theirs, adam, (2, 2, 3, 4))
    model = nnx.eval_shape(ThereAndBack)
    graph, params = nnx.split(model, nnx.Param)
    layout = layouts.flax_nnx(model, **SHAPES)
    params = torchwise.params_from_state_dict(theirs.state_dict(), params, layout=layout)
    images = np.random.default_rng(1).normal(size=(2, 2, 3, 4)).astype(np.float32)
    forward = jax.jit(lambda params, x: nnx.merge(graph, params)(x))
    ours = forward(params, jnp.asarray(images.transpose(0, 2, 3, 1)))
    expected = theirs(torch.from_numpy(images)).detach().numpy()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(ours.transpose(0, 3, 1, 2), expected, rtol=1e-5, atol=1e-5 * scale)
    assert_same_dict(
        dict(sorted(torchwise.params_to_state_dict(params, layout=layout).items())),
        dict(sorted(theirs.state_dict().items())),
    )
    transform, state = torchwise.from_state_dict(saved, params, layout=layout)
    names = [name for name, _ in theirs.named_parameters()]
    written = torchwise.to_state_dict(transform, state, params, layout=layout, names=names)
    assert_same_dict(written, saved)


def test_flattened_features_without_a_shape_are_refused():
    model = nnx.eval_shape(ThereAndBack)
    message = (
        r"flattened=\{'fc': shape, 'norm': shape, 'wide': shape\}, "
        r"unflattened=\{'wide': shape\}\. Pass"
    )
    with pytest.raises(ValueError, match=message):
        layouts.flax_nnx(model)
    with pytest.raises(ValueError, match=r"'fc' has 18 features, which the shape \(2, 3, 4\)"):
        layouts.flax_nnx(model, **{**SHAPES, "flattened": {"*": (2, 3, 4)}})
    with pytest.raises(ValueError, match="has 'fcc', where the model has no linear"):
        layouts.flax_nnx(model, **{**SHAPES, "flattened": {**SHAPES["flattened"], "fcc": None}})
    assert layouts.flax_nnx(model, flattened=None).permute["fc.kernel"] == (1, 0)


class General(nnx.Module):
    """A linear layer that takes the axes of an image itself, as a flattened one."""

    def __init__(self):
        self.conv = nnx.Conv(2, 3, (2, 2), padding="VALID", rngs=rngs())
        self.head = nnx.LinearGeneral((2, 3, 3), 5, axis=(1, 2, 3), rngs=rngs())

    def __call__(self, x):
        return self.head(self.conv(x))


def test_a_linear_layer_over_the_axes_of_an_image():
    theirs = torch.nn.Sequential()
    theirs.add_module("conv", torch.nn.Conv2d(2, 3, 2))
    theirs.add_module("flat", torch.nn.Flatten())
    theirs.add_module("head", torch.nn.Linear(18, 5))
    model = nnx.eval_shape(General)
    with pytest.raises(ValueError, match=r"flattened=\{'head': shape\}\. Pass"):
        layouts.flax_nnx(model)
    graph, params = nnx.split(model, nnx.Param)
    layout = layouts.flax_nnx(model, flattened={"head": (2, 3, 3)})
    params = torchwise.params_from_state_dict(theirs.state_dict(), params, layout=layout)
    images = np.random.default_rng(1).normal(size=(2, 2, 3, 4)).astype(np.float32)
    forward = jax.jit(lambda params, x: nnx.merge(graph, params)(x))
    ours = forward(params, jnp.asarray(images.transpose(0, 2, 3, 1)))
    expected = theirs(torch.from_numpy(images)).detach().numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


class Attributes(nnx.Module):
    """Attributes have no order: the head may get the pixels of either convolution, or channels."""

    def __init__(self):
        self.policy = nnx.Conv(8, 2, (1, 1), rngs=rngs())
        self.trunk = nnx.Conv(3, 8, (1, 1), rngs=rngs())
        self.head = nnx.Linear(8, 3, rngs=rngs())


def test_what_is_before_a_layer_is_known_in_a_sequence_alone():
    with pytest.raises(ValueError, match=r"flattened=\{'head': shape\}\. Pass"):
        layouts.flax_nnx(nnx.eval_shape(Attributes))

    def pooled():
        return nnx.Sequential(
            nnx.Conv(2, 6, (2, 2), rngs=rngs()),
            nnx.Conv(6, 12, (2, 2), rngs=rngs()),
            nnx.BatchNorm(12, rngs=rngs()),
            lambda x: x.mean((1, 2)),
            nnx.Linear(12, 24, rngs=rngs()),
            nnx.Linear(24, 12, rngs=rngs()),
        )

    assert len(layouts.flax_nnx(nnx.eval_shape(pooled)).permute) == 4


class LinenFeatures(linen.Module):
    """From images to features, through a norm, in the order of the calls."""

    pool: bool

    @linen.compact
    def __call__(self, x):
        x = linen.Conv(4, (2, 2), padding="VALID")(linen.Conv(2, (1, 1))(x))
        x = x.mean((1, 2)) if self.pool else x.reshape(len(x), -1)
        x = linen.Dense(8)(linen.LayerNorm()(x))
        return linen.Dense(4)(x)


def test_calls_tell_linens_order():
    images = jax.ShapeDtypeStruct((1, 3, 3, 2), jnp.float32)
    layouts.flax_linen(LinenFeatures(True), images)
    with pytest.raises(ValueError, match=r"flattened=\{'LayerNorm_0': shape, 'Dense_0': shape\}"):
        layouts.flax_linen(LinenFeatures(False), images)
    shapes = {"LayerNorm_0": (2, 2, 4), "Dense_0": (2, 2, 4)}
    layout = layouts.flax_linen(LinenFeatures(False), images, flattened=shapes)
    assert layout.permute["Dense_0.kernel"].factors == (8, 4, 2, 2)


def test_a_layer_of_linen_that_is_computed_again():
    layer = linen.remat(linen.Dense)(2)
    layout = layouts.flax_linen(layer, jax.ShapeDtypeStruct((1, 2), jnp.float32))
    assert layout.permute["kernel"] == (1, 0)


def test_names_of_modules():
    cells = nnx.eval_shape(
        lambda: nnx.List([nnx.LSTMCell(2, 3, rngs=rngs()), nnx.LSTMCell(3, 3, rngs=rngs())])
    )
    layout = layouts.flax_nnx(cells, modules={"0": "lstm.*_l0", "1": "lstm.*_l1"})
    theirs = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(2, 3, num_layers=2)})
    assert {name for split in layout.splits for name in split.names} == {*theirs.state_dict()}
    with pytest.raises(ValueError, match="modules= has 'cell', where the model has no arrays"):
        layouts.flax_nnx(cells, modules={"cell": "lstm"})
    attention = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "o_proj"}
    layout = layouts.flax_nnx(nnx.eval_shape(nnx_attention), modules=attention)
    assert not layout.splits
    assert layout.rename["key.bias"] == "k_proj.bias"
    assert {way.torch_shape for way in layout.permute.values()} == {(4,), (4, 4)}


@pytest.mark.parametrize(
    "make",
    [
        lambda: nnx.MultiHeadAttention(2, 4, in_kv_features=3, decode=False, rngs=rngs()),
        lambda: equinox_attention(key_size=3, value_size=3),
    ],
)
def test_keys_of_another_size_have_weights_of_their_own(make):
    theirs = torch.nn.MultiheadAttention(4, 2, kdim=3, vdim=3).state_dict()
    params, layout = params_of(make)
    written = torchwise.params_to_state_dict(params, layout=layout)
    assert {name: array.shape for name, array in written.items()} == {
        name: tuple(tensor.shape) for name, tensor in theirs.items()
    }


def test_tied_arrays_must_be_equal():
    tree = {"wte": {"weight": jnp.ones((2, 3))}}
    layout = torchwise.Layout(tied={"lm_head.weight": "wte.weight"})
    one, other = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)
    for names in (["wte.weight"], ["lm_head.weight"], ["wte.weight", "lm_head.weight"]):
        saved = {name: one.copy() * 3 for name in names}
        loaded = torchwise.params_from_state_dict(saved, tree, layout=layout)
        np.testing.assert_array_equal(loaded["wte"]["weight"], 3.0)
    saved = {"wte.weight": one, "lm_head.weight": other}
    with pytest.raises(ValueError, match=r"'lm_head\.weight' is not 'wte\.weight', to which"):
        torchwise.params_from_state_dict(saved, tree, layout=layout)


def test_a_split_of_ones_own():
    split = layouts.joined("qkv.weight", ["q.weight", "k.weight"], [2, 2])
    layout = torchwise.Layout(splits=[split])
    tree = {"q": {"weight": jnp.ones((2, 3))}, "k": {"weight": jnp.zeros((2, 3))}}
    written = torchwise.params_to_state_dict(tree, layout=layout)
    assert {name: array.shape for name, array in written.items()} == {"qkv.weight": (4, 3)}
    for wrong, message in (
        ({}, r"missing 'qkv\.weight'"),
        ({"qkv.weight": np.ones((5, 3))}, r"'qkv\.weight' has shape \(5, 3\), its parts have 2"),
    ):
        with pytest.raises(ValueError, match=message):
            torchwise.params_from_state_dict(wrong, tree, layout=layout)
    with pytest.raises(ValueError, match=r"but not \['k\.weight'\], which torch has in one"):
        torchwise.params_to_state_dict({"q": tree["q"]}, layout=layout)


class Normed(eqx.Module):
    norm: eqx.nn.BatchNorm

    def __init__(self, mode):
        self.norm = eqx.nn.BatchNorm(3, axis_name="batch", momentum=0.9, mode=mode)


def over_batch(norm):
    forward = jax.vmap(norm, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    # Equinox takes a Python float to the power of an integer array.
    return jax.jit(jax.numpy_dtype_promotion("standard")(forward))


@pytest.mark.parametrize("mode", ["batch", "ema"])
def test_statistics_in_a_state_of_equinox(mode):
    theirs = torch.nn.ModuleDict({"norm": torch.nn.BatchNorm1d(3)})
    theirs["norm"](torch.rand(4, 3) * 2 + 1)
    model, state = eqx.nn.make_with_state(Normed)(mode)
    layout = layouts.equinox(model, state)
    pair = eqx.filter((model, state), eqx.is_array)
    params, state = torchwise.params_from_state_dict(theirs.state_dict(), pair, layout=layout)
    inputs = np.ones((2, 3), np.float32)
    model = eqx.nn.inference_mode(eqx.combine(params, model))
    forward = over_batch(model.norm)
    ours = forward(jnp.asarray(inputs), state)[0]
    expected = theirs.eval()["norm"](torch.from_numpy(inputs)).detach().numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
    written = torchwise.params_to_state_dict((params, state), layout=layout)
    for name, array in written.items():
        assert same_bits(np.asarray(array), theirs.state_dict()[name].numpy())
    with pytest.raises(ValueError, match=r"unexpected 'norm\.running_mean'"):
        torchwise.params_from_state_dict(theirs.state_dict(), params, layout=layout)


@pytest.mark.parametrize("mode", ["batch", "ema"])
def test_statistics_that_equinox_has_made(mode):
    model, state = eqx.nn.make_with_state(Normed)(mode)
    layout, pair = layouts.equinox(model, state), eqx.filter((model, state), eqx.is_array)
    fresh = torchwise.params_to_state_dict(pair, layout=layout)
    assert not np.any(fresh["norm.running_mean"])
    np.testing.assert_array_equal(fresh["norm.running_var"], 1.0)
    forward = over_batch(model.norm)
    batch = jnp.arange(12.0).reshape(4, 3)
    _, state = forward(batch, state)
    written = torchwise.params_to_state_dict((pair[0], state), layout=layout)
    theirs = torch.nn.BatchNorm1d(3).eval()
    theirs.load_state_dict(
        {name.removeprefix("norm."): torch.tensor(np.array(x)) for name, x in written.items()}
    )
    inference = eqx.nn.inference_mode(model)
    forward = over_batch(inference.norm)
    expected = theirs(torch.from_numpy(np.array(batch))).detach().numpy()
    np.testing.assert_allclose(forward(batch, state)[0], expected, rtol=1e-5)


class Lora(nnx.Module):
    def __init__(self):
        self.adapted = nnx.LoRALinear(2, 2, lora_rank=1, rngs=rngs())


REFUSED = [
    (Lora, "known for LoRALinear at 'adapted'"),
    (
        lambda: nnx.WeightNorm(nnx.Linear(2, 2, rngs=rngs()), rngs=rngs()),
        "WeightNorm at '' which overwrites the kernel",
    ),
    (
        lambda: nnx.vmap(lambda one: nnx.Linear(2, 2, rngs=one))(nnx.Rngs(0).split(3)),
        r"Linear at '' with a kernel of shape \(3, 2, 2\)",
    ),
    (
        lambda: nnx.SimpleCell(2, 2, residual=True, rngs=rngs()),
        "SimpleCell at '' with residual=True",
    ),
    (lambda: nnx.Einsum("ab,bc->ac", (2, 2), rngs=rngs()), "known for Einsum at ''"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_layers_without_a_layout_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        layouts.flax_nnx(nnx.eval_shape(make))


def test_layers_of_equinox_without_a_layout_are_named():
    def make():
        return eqx.nn.SpectralNorm(eqx.nn.Linear(2, 2, key=KEY), "weight", key=KEY)

    with pytest.raises(ValueError, match="SpectralNorm at ''"):
        layouts.equinox(eqx.filter_eval_shape(make))
