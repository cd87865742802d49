"""The same model in torch, Flax nnx and Equinox: parameters, forward pass and optimizer state."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import linen, nnx
from state_dict_tools import as_numpy, assert_same_dict

import torchwise
from distance import same_bits
from rounds import FIRST, each
from torch_oracle import to_numpy
from torchwise import layouts

WIDTH = 4  # square matrices, which only names can tell from their transposes


class TorchModel(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(5, WIDTH * WIDTH)
        self.conv = torch.nn.Conv2d(1, 3, (2, 3))
        self.norm = torch.nn.LayerNorm(3 * 3 * 2)
        self.head = torch.nn.Sequential(
            torch.nn.Linear(18, WIDTH), torch.nn.Linear(WIDTH, WIDTH, bias=False)
        )

    def forward(self, tokens):
        images = self.embed(tokens).reshape(-1, 1, WIDTH, WIDTH)
        return self.head(self.norm(self.conv(images).flatten(1)))


class NnxModel(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.embed = nnx.Embed(5, WIDTH * WIDTH, rngs=rngs)
        self.conv = nnx.Conv(1, 3, (2, 3), padding="VALID", rngs=rngs)
        self.norm = nnx.LayerNorm(3 * 3 * 2, epsilon=1e-5, rngs=rngs)
        self.head = nnx.Sequential(
            nnx.Linear(18, WIDTH, rngs=rngs), nnx.Linear(WIDTH, WIDTH, use_bias=False, rngs=rngs)
        )

    def __call__(self, tokens):
        images = self.embed(tokens).reshape(-1, WIDTH, WIDTH, 1)
        maps = self.conv(images).transpose(0, 3, 1, 2)  # torch flattens channels first
        return self.head(self.norm(maps.reshape(len(tokens), -1)))


class EquinoxModel(eqx.Module):
    head: eqx.nn.Sequential  # not in torch's order
    conv: eqx.nn.Conv2d
    norm: eqx.nn.LayerNorm
    embed: eqx.nn.Embedding

    def __init__(self):
        keys = jax.random.split(jax.random.key(0), 4)
        self.embed = eqx.nn.Embedding(5, WIDTH * WIDTH, key=keys[0])
        self.conv = eqx.nn.Conv2d(1, 3, (2, 3), key=keys[1])
        self.norm = eqx.nn.LayerNorm(3 * 3 * 2)
        first = eqx.nn.Linear(18, WIDTH, key=keys[2])
        second = eqx.nn.Linear(WIDTH, WIDTH, use_bias=False, key=keys[3])
        self.head = eqx.nn.Sequential([first, second])

    def __call__(self, token):
        image = self.embed(token).reshape(1, WIDTH, WIDTH)
        return self.head(self.norm(self.conv(image).reshape(-1)))


def nnx_parts():
    graph, params = nnx.split(NnxModel(), nnx.Param)
    layout = layouts.flax_nnx(NnxModel(), flattened=None)
    return params, layout, lambda p, x: nnx.merge(graph, p)(x)


def equinox_parts():
    params, static = eqx.partition(EquinoxModel(), eqx.is_inexact_array)
    layout = layouts.equinox(EquinoxModel())
    return params, layout, lambda p, x: jax.vmap(eqx.combine(p, static))(x)


BOTH = pytest.mark.parametrize("parts", [nnx_parts, equinox_parts])
TOKENS = np.array([0, 3, 1, 4])
CASES = pytest.mark.parametrize("case", each(FIRST, FIRST[:1]))


def plain_sgd(params):
    return torch.optim.SGD(params, 0.1, momentum=0.9)


def torch_parts(make, named=True):
    torch.manual_seed(14)
    model = TorchModel()
    optimizer = make(model.named_parameters() if named else model.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        (model(torch.from_numpy(TOKENS)) ** 2).sum().backward()
        optimizer.step()
    return model, optimizer


@BOTH
def test_the_forward_pass_is_torchs_up_to_rounding(parts):
    model, _ = torch_parts(plain_sgd)
    params, layout, apply = parts()
    params = torchwise.params_from_state_dict(model.state_dict(), params, layout=layout)
    ours = apply(params, jnp.asarray(TOKENS))
    theirs = to_numpy(model(torch.from_numpy(TOKENS)))
    # Sums of up to 18 terms in another order: a few roundings of the largest term.
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())
    assert_same_dict(
        dict(sorted(torchwise.params_to_state_dict(params, layout=layout).items())),
        dict(sorted(model.state_dict().items())),
    )


@BOTH
@CASES
@pytest.mark.parametrize("named", [True, False])
def test_optimizer_state_has_the_parameters_places_and_axes(parts, case, named):
    model, optimizer = torch_parts(
        lambda params: case.optimizer.theirs(params, **case.hyperparameters), named
    )
    params, layout, _ = parts()
    params = torchwise.params_from_state_dict(model.state_dict(), params, layout=layout)
    names = [name for name, _ in model.named_parameters()]
    theirs = optimizer.state_dict()
    transform, state = torchwise.from_state_dict(theirs, params, names=names, layout=layout)
    ours = {key: tree for held in state.states for key, tree in held._asdict().items()}
    shapes = [tensor.shape for tensor in model.parameters()]
    like_parameters = [
        key
        for key in case.optimizer.state_keys
        if [entry[key].shape for entry in theirs["state"].values() if key in entry] == shapes
    ]
    for key in like_parameters:
        # The same arrays as a model's: what a module's own loading puts there.
        as_model = {name: theirs["state"][i][key] for i, name in enumerate(names)}
        moved = torchwise.params_from_state_dict(as_model, params, layout=layout)
        for mine, expected in zip(jax.tree.leaves(ours[key]), jax.tree.leaves(moved), strict=True):
            assert same_bits(mine, expected)
    assert like_parameters
    assert_same_dict(torchwise.to_state_dict(transform, state, params, layout=layout), theirs)


@BOTH
def test_training_goes_on_with_torchs_gradients(parts):
    """Steps on the very same gradients: SGD is elementwise, so a permutation moves no rounding."""
    model, optimizer = torch_parts(plain_sgd)
    params, layout, _ = parts()
    params = torchwise.params_from_state_dict(model.state_dict(), params, layout=layout)
    transform, state = torchwise.from_state_dict(optimizer.state_dict(), params, layout=layout)

    @jax.jit
    def step(params, state, grads):
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(20):
        optimizer.zero_grad()
        (model(torch.from_numpy(TOKENS)) ** 2).sum().backward()
        grads = {name: parameter.grad for name, parameter in model.named_parameters()}
        optimizer.step()
        params, state = step(
            params, state, torchwise.params_from_state_dict(grads, params, layout=layout)
        )
    ours = torchwise.params_to_state_dict(params, layout=layout)
    for name, tensor in model.state_dict().items():
        assert same_bits(ours[name], as_numpy(tensor))
    written = torchwise.to_state_dict(transform, state, params, layout=layout)
    assert_same_dict(written, optimizer.state_dict())


def test_gradients_of_the_model_itself_move_it_through_several_groups():
    params, layout, apply = equinox_parts()
    model, _ = torch_parts(torch.optim.SGD)
    elements = list(model.named_parameters())
    groups = [{"params": elements[:2]}, {"params": elements[2:], "lr": 0.0}]
    saved = torch.optim.SGD(groups, lr=0.1, momentum=0.9).state_dict()
    transform, state = torchwise.from_state_dict(saved, params, layout=layout)
    grads = jax.grad(lambda p: jnp.sum(apply(p, jnp.asarray(TOKENS)) ** 2))(params)
    updates, _ = transform.update(grads, state, params)
    assert np.any(np.asarray(updates.embed.weight))
    assert not np.any(np.asarray(updates.norm.weight))


def test_statistics_of_batch_norm_are_torchs_buffers():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    model(torch.arange(8.0).reshape(4, 2))
    rngs = nnx.Rngs(0)
    ours = nnx.Sequential(nnx.Linear(2, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs))
    layout = layouts.flax_nnx(ours)
    state = torchwise.params_from_state_dict(model.state_dict(), nnx.state(ours), layout=layout)
    nnx.update(ours, state)
    assert same_bits(ours.layers[1].mean[...], to_numpy(model[1].running_mean))
    assert same_bits(ours.layers[1].var[...], to_numpy(model[1].running_var))
    model.load_state_dict(
        {
            name: torch.from_numpy(np.array(array))
            for name, array in torchwise.params_to_state_dict(state, layout=layout).items()
        }
    )
    message = r"(?s)unexpected '1\.running_mean'.*the model of the layout has them, but not this"
    with pytest.raises(ValueError, match=message):
        torchwise.params_from_state_dict(
            model.state_dict(), nnx.state(ours, nnx.Param), layout=layout
        )


def test_a_state_and_a_pure_dict_have_no_types():
    """Their modules' types decide; the layout of the module is that of both."""
    model = NnxModel()
    state = nnx.state(model, nnx.Param)
    layout = layouts.flax_nnx(model, flattened=None)
    names = [name for name, _ in TorchModel().named_parameters()]
    for tree in (nnx.split(model), NnxModel):
        with pytest.raises(TypeError, match="pass the module itself"):
            layouts.flax_nnx(tree)
    for tree in (state, nnx.to_pure_dict(state)):
        with pytest.raises(TypeError, match="pass the module itself"):
            layouts.flax_nnx(tree)
        assert sorted(torchwise.params_to_state_dict(tree, layout=layout)) == sorted(names)


def linear_of_equinox():
    return eqx.nn.Linear(2, 2, key=jax.random.key(0))


def flax_linen(model):
    return layouts.flax_linen(model, jnp.ones((1, 2)))


@pytest.mark.parametrize(
    ("call", "model", "got"),
    [
        (layouts.equinox, lambda: nnx.state(NnxModel()), "got State, .* module of Equinox: pass"),
        (layouts.equinox, NnxModel, r"got NnxModel, .*for a model of Flax NNX, call flax_nnx\(\)"),
        (
            layouts.equinox,
            lambda: {"w": jnp.ones(2)},
            "got dict, .* no module of Equinox: pass the",
        ),
        (layouts.equinox, lambda: jnp.ones(2), "got ArrayImpl, .* no module of Equinox"),
        (layouts.equinox, lambda: EquinoxModel, "got the class EquinoxModel"),
        (
            layouts.equinox,
            lambda: linen.Dense(2),
            r"for a model of Flax Linen, call flax_linen\(\)",
        ),
        (layouts.flax_nnx, linear_of_equinox, r"for a model of Equinox, call equinox\(\)"),
        (layouts.flax_nnx, lambda: linen.Dense(2), r"for a model of Flax Linen, call flax_linen"),
        (flax_linen, NnxModel, r"got NnxModel, .*for a model of Flax NNX, call flax_nnx\(\)"),
        (flax_linen, lambda: {"w": jnp.ones(2)}, "got dict, .* no module of Flax Linen: pass"),
    ],
)
def test_what_is_no_model_of_the_library_is_refused(call, model, got):
    with pytest.raises(TypeError, match=got):
        call(model())


def test_modules_in_containers_and_parts_of_models_are_models():
    linear = linear_of_equinox()
    params, static = eqx.partition(linear, eqx.is_inexact_array)
    assert layouts.equinox({"a": linear}).rename == {"a.weight": "a.weight", "a.bias": "a.bias"}
    assert layouts.equinox(params) == layouts.equinox(linear)
    assert layouts.equinox(static).rename == {}
    by_name = layouts.flax_nnx({"a": nnx.Linear(2, 2, rngs=nnx.Rngs(0))})
    assert by_name.permute == {"a.kernel": (1, 0)}


def test_a_state_of_equinox_is_no_part_of_the_model():
    norm = functools.partial(eqx.nn.BatchNorm, 2, axis_name="batch", mode="batch")
    model, state = eqx.nn.make_with_state(norm)()
    for wrong in ((model, state), [state, model]):
        with pytest.raises(TypeError, match=r"as the second argument, as in equinox\(model, state"):
            layouts.equinox(wrong)
    with pytest.raises(TypeError, match="got State, in which there is no module of Equinox"):
        layouts.equinox(state, model)
    with pytest.raises(TypeError, match=r"got tuple as the state: pass the eqx\.nn\.State"):
        layouts.equinox(model, (model, state))


def test_shapes_may_stand_for_arrays():
    shapes = jax.eval_shape(lambda: {"kernel": jnp.zeros((3, 2), jnp.bfloat16)})
    layout = torchwise.Layout({"kernel": "weight"}, {"kernel": (1, 0)})
    saved = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    filled = torchwise.params_from_state_dict(saved, shapes, layout=layout)
    assert filled["kernel"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(filled["kernel"].astype(np.float32), saved["weight"].T)


def test_names_by_a_function_and_axes_by_a_pattern():
    layout = torchwise.Layout(lambda path: path.replace("kernel", "weight"), {"*kernel": (1, 0)})
    tree = {"a": {"kernel": jnp.arange(6.0).reshape(3, 2)}, "b": {"kernel": jnp.eye(2)}}
    written = torchwise.params_to_state_dict(tree, layout=layout)
    assert {name: array.shape for name, array in written.items()} == {
        "a.weight": (2, 3),
        "b.weight": (2, 2),
    }
    back = torchwise.params_from_state_dict(written, tree, layout=layout)
    for mine, expected in zip(jax.tree.leaves(back), jax.tree.leaves(tree)):
        assert same_bits(mine, expected)
