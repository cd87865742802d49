"""No state lands on another parameter: by name, by the caller's word, or not at all."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

import torchwise
from torch_oracle import to_numpy
from torchwise import checkpoint, optim

LAYERS = 12
NAMES = [f"{index}.weight" for index in range(LAYERS)]
EVERYTHING = StateDictOptions(full_state_dict=True)


def layers():
    """A model of torch with equal layers, and an optimizer that has taken a step."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(2, 2, bias=False) for _ in range(LAYERS)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step(model, optimizer)
    return model, optimizer


def step(model, optimizer):
    model(torch.arange(10.0).reshape(5, 2)).square().sum().backward()
    optimizer.step()


def arrays(model):
    return {name: jnp.asarray(to_numpy(value)) for name, value in model.state_dict().items()}


def buffers(model, optimizer):
    return {name: optimizer.state[value] for name, value in model.named_parameters()}


def assert_found(state, model, optimizer):
    """Each name has the momentum that torch has under it."""
    ours = state.states[0].momentum_buffer
    for name, entry in buffers(model, optimizer).items():
        np.testing.assert_array_equal(ours[name], to_numpy(entry["momentum_buffer"]))


def sorted_tree(params):
    return jax.tree.map(lambda leaf: leaf, params)


UNNAMED = r"^from_state_dict\(\): the dict has no names, and shapes do not tell parameter 0"


@pytest.mark.parametrize("reorder", [lambda params: params, sorted_tree], ids=["given", "sorted"])
def test_equal_layers_of_a_dict_without_names_are_refused(reorder):
    model, optimizer = layers()
    with pytest.raises(ValueError, match=rf"{UNNAMED}.*12 parameters could .* Pass names="):
        torchwise.from_state_dict(optimizer.state_dict(), reorder(arrays(model)))


@pytest.mark.parametrize("reorder", [lambda params: params, sorted_tree], ids=["given", "sorted"])
def test_names_find_them(reorder):
    model, optimizer = layers()
    params = reorder(arrays(model))
    for names in (NAMES, torchwise.parameter_names(model.state_dict())):
        _, state = torchwise.from_state_dict(optimizer.state_dict(), params, names=names)
        assert_found(state, model, optimizer)


def test_the_given_order_is_that_of_insertion_at_every_depth():
    model, optimizer = layers()
    params = arrays(model)
    assert [*sorted_tree(params)] != [*params]
    _, state = torchwise.from_state_dict(optimizer.state_dict(), params, order="given")
    assert_found(state, model, optimizer)
    nested = {"b": {"2": params["0.weight"], "10": params["1.weight"]}, "a": [params["2.weight"]]}
    saved = optimizer.state_dict()
    saved["param_groups"][0]["params"] = [0, 1, 2]
    saved["state"] = {key: saved["state"][key] for key in range(3)}
    _, state = torchwise.from_state_dict(saved, nested, order="given")
    found = state.states[0].momentum_buffer
    for index, mine in enumerate([found["b"]["2"], found["b"]["10"], found["a"][0]]):
        np.testing.assert_array_equal(mine, to_numpy(saved["state"][index]["momentum_buffer"]))


def test_an_order_that_jax_has_made_is_not_the_given_one():
    model, optimizer = layers()
    params, saved = sorted_tree(arrays(model)), optimizer.state_dict()
    with pytest.raises(ValueError, match="params is in alphabetical order, as JAX leaves dicts"):
        torchwise.from_state_dict(saved, params, order="given")
    transform, state = torchwise.from_state_dict(saved, params, names=NAMES)
    with pytest.raises(ValueError, match=r"alphabetical order.* tell '0\.weight' from '1\.weight'"):
        torchwise.to_state_dict(transform.chains[0], state, params, order="given")


def test_names_of_a_safetensors_file_are_refused(tmp_path):
    from safetensors.torch import save_file

    model, optimizer = layers()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    params = checkpoint.load(tmp_path / "model.safetensors")
    assert list(params) == sorted(params)
    with pytest.raises(ValueError, match=r"names are in alphabetical order, as .* safetensors"):
        torchwise.from_state_dict(optimizer.state_dict(), params, names=list(params))
    with pytest.raises(ValueError, match=r"^parameter_names\(\): .* alphabetical"):
        torchwise.parameter_names(params)
    _, state = torchwise.from_state_dict(
        optimizer.state_dict(), params, names=list(arrays(model)), order="given"
    )
    assert_found(state, model, optimizer)


def decayed(model, momentum=0.0):
    """Groups as HF's Trainer makes them: what decays first."""
    groups = [
        {"params": [one for one in model.parameters() if one.ndim > 1], "weight_decay": 0.1},
        {"params": [one for one in model.parameters() if one.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=0.1, momentum=momentum)


def test_groups_without_state_are_refused_without_names():
    """No state, so no shapes: the settings of a group would land on other parameters."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    saved, params = decayed(model).state_dict(), arrays(model)
    for options in ({}, {"names": sorted(params)}):
        with pytest.raises(ValueError, match="shapes do not tell parameter 0"):
            torchwise.from_state_dict(saved, params, **options)
    names = [["0.weight"], ["0.bias", "1.weight", "1.bias"]]
    transform, _ = torchwise.from_state_dict(saved, params, names=names)
    groups = torchwise.to_state_dict(transform, transform.init(params), params)["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert transform.grouping.labels == {"0.weight": 0, "0.bias": 1, "1.weight": 1, "1.bias": 1}
    with pytest.raises(ValueError, match=r"names for groups of \[2, 2\], not of \[1, 3\]"):
        torchwise.from_state_dict(saved, params, names=[names[0] + names[1][:1], names[1][1:]])


def test_shapes_that_leave_no_choice_are_enough():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    for params in (arrays(model), sorted_tree(arrays(model))):
        if [*params] == ["0.weight", "0.bias"]:
            _, state = torchwise.from_state_dict(optimizer.state_dict(), params)
            assert_found(state, model, optimizer)
        _, state = torchwise.from_state_dict(
            optimizer.state_dict(), params, names=sorted(params)[::-1]
        )
        assert_found(state, model, optimizer)


def test_one_state_of_two_may_be_anybodys():
    """A parameter without state fits everywhere, so that the other's could be its own."""
    entry = {"momentum_buffer": np.ones(2, np.float32)}
    saved = unnamed(2, momentum=0.9) | {"state": {0: entry}}
    with pytest.raises(ValueError, match=UNNAMED):
        torchwise.from_state_dict(saved, {"a": jnp.ones(2), "b": jnp.ones(2)})
    torchwise.from_state_dict(saved, {"a": jnp.ones(2), "b": jnp.ones(3)})


def unnamed(*sizes, **options):
    ids = iter(range(sum(sizes)))
    groups = [{"params": [torch.ones(2) for _ in range(size)]} for size in sizes]
    saved = torch.optim.SGD(groups, lr=0.1, **options).state_dict()
    for group, size in zip(saved["param_groups"], sizes):
        group["params"] = list(itertools.islice(ids, size))
    return saved


PAIR = {"b": jnp.ones(2), "a": jnp.zeros(2)}


def test_one_group_without_state_goes_out_in_an_order_that_is_asked_for():
    """Any order does for the steps. On the way back it is unknown whose momentum is whose."""
    transform, state = torchwise.from_state_dict(unnamed(2, momentum=0.9), PAIR)
    assert torchwise.to_state_dict(transform, state, PAIR)["state"] == {}
    _, state = transform.step(PAIR, state, PAIR)
    text = r"had no names and no state to tell .* now there is state to tell 'a' from 'b'"
    with pytest.raises(ValueError, match=text):
        torchwise.to_state_dict(transform, state, PAIR)
    for options in ({"names": ["b", "a"]}, {"order": "given"}):
        written = torchwise.to_state_dict(transform, state, PAIR, **options)["state"]
        assert [entry["momentum_buffer"].tolist() for entry in written.values()] == [[1, 1], [0, 0]]


def test_a_list_is_taken_by_place_as_in_torch():
    model, optimizer = layers()
    params = [*arrays(model).values()]
    transform, state = torchwise.from_state_dict(optimizer.state_dict(), params)
    assert_found(
        state._replace(states=[type(state.states[0])(dict(zip(NAMES, *state.states[0])))]),
        model,
        optimizer,
    )
    back = torchwise.to_state_dict(transform, state, params)["state"]
    assert list(back) == list(range(LAYERS))


def test_a_new_chain_is_written_in_torchs_order_or_with_a_warning():
    transform = torchwise.sgd(0.1, momentum=0.9)
    _, state = transform.step(PAIR, transform.init(PAIR), PAIR)
    with pytest.warns(UserWarning, match=r"goes by it and not by names, .* tell 'a' from 'b'"):
        written = torchwise.to_state_dict(transform, state, PAIR)
    _, again = torchwise.from_state_dict(written, PAIR)  # by the names that are in it
    jax.tree.map(np.testing.assert_array_equal, again, state)
    with pytest.raises(ValueError, match=r"to_state_dict\(\): the names are in alphabetical order"):
        torchwise.to_state_dict(transform, state, PAIR, names=["a", "b"])
    sorted_names = {"names": ["a", "b"], "order": "given"}
    written = torchwise.to_state_dict(transform, state, PAIR, **sorted_names)
    assert written["param_groups"][0]["param_names"] == ["a", "b"]
    for options in ({"names": ["b", "a"]}, {"order": "given"}):
        written = torchwise.to_state_dict(transform, state, PAIR, **options)
        assert written["param_groups"][0]["param_names"] == ["b", "a"]
        np.testing.assert_array_equal(written["state"][0]["momentum_buffer"], np.ones(2))


def test_the_order_of_a_loaded_dict_goes_through_containers():
    model, optimizer = layers()
    params, saved = arrays(model), optimizer.state_dict()
    transform, state = torchwise.from_state_dict(saved, params, names=NAMES)
    clipped = optax.chain(optax.clip(9.0), transform)
    for wrapped, whole in (
        (clipped, (optax.EmptyState(), state)),
        (optax.MultiSteps(clipped, 1), None),
    ):
        if whole is None:
            whole = wrapped.init(params)._replace(inner_opt_state=(optax.EmptyState(), state))
        written = torchwise.to_state_dict(wrapped, whole, params)
        assert written["param_groups"] == saved["param_groups"]
        for one, other in zip(written["state"].values(), saved["state"].values(), strict=True):
            np.testing.assert_array_equal(one["momentum_buffer"], other["momentum_buffer"])


def test_names_of_the_dict_are_believed_before_those_that_are_given():
    saved = unnamed(2)
    saved["param_groups"][0]["param_names"] = ["b", "a"]
    torchwise.from_state_dict(saved, PAIR, names=["b", "a"])
    with pytest.raises(ValueError, match="has 'a' for the parameter that the dict calls 'b'"):
        torchwise.from_state_dict(saved, PAIR, names=["a", "b"])


# Ids that are names.


def with_named_ids(momentum=0.9):
    """A model of two equal layers, and its dict of `get_optimizer_state_dict`, in two groups."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(*(torch.nn.Linear(2, 2, bias=False) for _ in range(3)))
    groups = [
        {"params": [model[2].weight], "lr": 0.5},
        {"params": [model[0].weight, model[1].weight]},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=momentum)
    step(model, optimizer)
    return model, optimizer, get_optimizer_state_dict(model, optimizer, options=EVERYTHING)


def test_ids_that_are_names_are_matched_by_name_and_go_back_into_torch(tmp_path):
    model, optimizer, saved = with_named_ids()
    assert [group["params"] for group in saved["param_groups"]] == [
        ["2.weight"],
        ["0.weight", "1.weight"],
    ]
    params = arrays(model)
    transform, state = torchwise.from_state_dict(saved, params)
    assert transform.grouping.labels == {"0.weight": 1, "1.weight": 1, "2.weight": 0}
    back = torchwise.to_state_dict(transform, state, params)
    assert [group["params"] for group in back["param_groups"]] == [
        ["2.weight"],
        ["0.weight", "1.weight"],
    ]
    checkpoint.save(tmp_path / "back.pt", back)
    assert_taken(model, optimizer, tmp_path / "back.pt")


@pytest.mark.parametrize("named", [True, False])
def test_the_stateful_class_keeps_them_too(named, tmp_path):
    model, optimizer, saved = with_named_ids()
    values = arrays(model)
    order = [["2.weight"], ["1.weight", "0.weight"] if named else ["0.weight", "1.weight"]]
    ours = optim.SGD(
        [
            {"params": {k: values[k] for k in keys} if named else [values[k] for k in keys]}
            for keys in order
        ],
        lr=0.1,
    )
    ours.load_state_dict(saved)
    again = optim.SGD(ours.param_groups)
    again.load_state_dict(ours.state_dict())
    back = again.state_dict()
    assert [group["params"] for group in back["param_groups"]] == order
    assert back["state"].keys() == saved["state"].keys()
    for name, entry in back["state"].items():
        np.testing.assert_array_equal(
            entry["momentum_buffer"], to_numpy(saved["state"][name]["momentum_buffer"])
        )
    checkpoint.save(tmp_path / "back.pt", back)
    assert_taken(model, optimizer, tmp_path / "back.pt")


def assert_taken(model, optimizer, path):
    """torch takes the file by name, momentum and settings included."""
    expected = {
        name: entry["momentum_buffer"].clone() for name, entry in buffers(model, optimizer).items()
    }
    groups = [{"params": [model[2].weight]}, {"params": model[:2].parameters()}]
    fresh = torch.optim.SGD(groups, lr=9.0, momentum=0.9)
    model.zero_grad()
    read = torch.load(path, weights_only=True)
    set_optimizer_state_dict(model, fresh, read, options=EVERYTHING)
    assert [group["lr"] for group in fresh.param_groups] == [0.5, 0.1]
    for name, entry in buffers(model, fresh).items():
        assert torch.equal(entry["momentum_buffer"], expected[name])


# The stateful class goes by place, in the order of passing.


def test_a_dict_of_parameters_is_in_the_order_of_insertion():
    model, theirs = layers()
    ours = optim.SGD(arrays(model), lr=0.1)
    ours.load_state_dict(theirs.state_dict())
    for parameter in ours.param_groups[0]["params"]:
        mine = ours.state[parameter]["momentum_buffer"]
        expected = buffers(model, theirs)[parameter.name]["momentum_buffer"]
        np.testing.assert_array_equal(mine, to_numpy(expected))
    written = ours.state_dict()
    assert written["param_groups"][0]["param_names"] == NAMES
    for index, entry in theirs.state_dict()["state"].items():
        mine = written["state"][index]["momentum_buffer"]
        np.testing.assert_array_equal(mine, to_numpy(entry["momentum_buffer"]))
    swapped = optim.SGD(dict(reversed(arrays(model).items())), lr=0.1)
    swapped.load_state_dict(written)  # by name, where both sides have names
    for parameter in swapped.param_groups[0]["params"]:
        expected = buffers(model, theirs)[parameter.name]["momentum_buffer"]
        mine = swapped.state[parameter]["momentum_buffer"]
        np.testing.assert_array_equal(mine, to_numpy(expected))


# Prefixes, tied and frozen parameters.


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "net."])
def test_prefixes(prefix):
    model, optimizer = layers()
    saved = {prefix + name: value for name, value in model.state_dict().items()}
    named = optimizer.state_dict()
    named["param_groups"][0]["param_names"] = list(saved)
    params = torchwise.params_from_state_dict(saved, arrays(model), prefix=prefix)
    assert list(params) == NAMES  # and not sorted
    assert list(torchwise.params_to_state_dict(params, prefix=prefix)) == list(saved)
    assert torchwise.parameter_names(saved, prefix=prefix) == NAMES
    transform, state = torchwise.from_state_dict(named, params, prefix=prefix)
    assert_found(state, model, optimizer)
    back = torchwise.to_state_dict(transform, state, params, prefix=prefix)
    assert back["param_groups"] == named["param_groups"]
    bare = torchwise.to_state_dict(transform, state, params)
    assert bare["param_groups"][0]["param_names"] == NAMES
    with pytest.raises(ValueError, match=r"missing '0\.weight'"):
        torchwise.from_state_dict(named, params)


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(3, 3)
        self.norm = torch.nn.BatchNorm1d(3)
        self.body = torch.nn.Linear(3, 3, bias=False)
        self.head = torch.nn.Linear(3, 3, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.body(self.norm(self.embed(tokens))))


def test_tied_parameters_and_statistics_have_no_names_among_those_of_an_optimizer(tmp_path):
    model = Tied()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.tensor([0, 1, 2])).square().sum().backward()
    optimizer.step()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    read = checkpoint.load(tmp_path / "model.pt")
    names = [name for name, _ in model.named_parameters()]
    assert torchwise.parameter_names(read) == names
    assert torchwise.parameter_names(model.state_dict()) == names
    assert torchwise.parameter_names(read, ignore=["norm.*"]) == ["embed.weight", "body.weight"]
    params = {name: jnp.asarray(read[name]) for name in names}
    _, state = torchwise.from_state_dict(
        optimizer.state_dict(),
        params,
        names=list(read),
        layout=torchwise.Layout(ignore=["head.weight", "norm.running_*", "norm.num_*"]),
    )
    assert_found(state, model, optimizer)


@pytest.mark.parametrize("groups", [1, 2])
def test_frozen_parameters_are_in_no_group(groups):
    model, _ = layers()
    model = model[:4]
    model[1].requires_grad_(False)
    live = [one for one in model.parameters() if one.requires_grad]
    cut = [live] if groups == 1 else [live[:1], live[1:]]
    optimizer = torch.optim.SGD([{"params": one} for one in cut], lr=0.1, momentum=0.9)
    step(model, optimizer)
    params, saved = arrays(model), optimizer.state_dict()
    with pytest.raises(ValueError, match="4 names for 3 parameters"):
        torchwise.from_state_dict(saved, params, names=list(params))
    with pytest.raises(ValueError, match="nothing has a name like"):
        torchwise.from_state_dict(saved, params, names=list(params), frozen=["x*"])
    transform, state = torchwise.from_state_dict(saved, params, names=list(params), frozen=["1.*"])
    written = torchwise.to_state_dict(transform, state, params)
    assert written["param_groups"] == saved["param_groups"]
    assert_equal_states(written, saved)
    grads = {name: None if name == "1.weight" else params[name] for name in params}
    moved, state = transform.step(grads, state, params)
    np.testing.assert_array_equal(moved["1.weight"], params["1.weight"])
    assert np.any(moved["0.weight"] != params["0.weight"])
    written = torchwise.to_state_dict(transform, state, moved)
    assert list(written["state"]) == [0, 1, 2]
    with pytest.raises(ValueError, match=r"1\.weight.*"):
        transform.step(params, state, params)


def test_frozen_parameters_of_a_flax_model():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1, momentum=0.9)
    step(model, optimizer)
    rngs = nnx.Rngs(0)
    ours = nnx.Sequential(nnx.Linear(2, 3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs))
    params, layout = nnx.state(ours, nnx.Param), torchwise.layouts.flax_nnx(ours)
    params = torchwise.params_from_state_dict(model.state_dict(), params, layout=layout)
    names = torchwise.parameter_names(model.state_dict())
    transform, state = torchwise.from_state_dict(
        optimizer.state_dict(), params, names=names, layout=layout, frozen=["0.*"]
    )
    written = torchwise.to_state_dict(transform, state, params, layout=layout)
    assert_equal_states(written, optimizer.state_dict())
    grads = jax.tree_util.tree_map_with_path(
        lambda path, leaf: None if path[1].key == 0 else leaf, params
    )
    moved, _ = transform.step(grads, state, params)
    moves = [
        bool(np.any(one != other)) for one, other in zip(*map(jax.tree.leaves, (moved, params)))
    ]
    assert moves == [False, False, True, True]


def assert_equal_states(ours, theirs):
    assert list(ours["state"]) == list(theirs["state"])
    for index, entry in theirs["state"].items():
        mine = ours["state"][index]["momentum_buffer"]
        np.testing.assert_array_equal(mine, to_numpy(entry["momentum_buffer"]))


def test_the_order_of_passing_is_kept_by_the_parameters_that_are_read():
    saved = {"2": np.ones(2), "10": {"w": np.ones(2)}}
    template = {"2": jnp.ones(2), "10": [{"w": jnp.ones(2), "b": jnp.ones(2)}]}
    flat = {"2": saved["2"], "10.0.w": np.zeros(2), "10.0.b": np.ones(2)}
    read = torchwise.params_from_state_dict(flat, template)
    assert list(read) == ["2", "10"]
    assert list(read["10"][0]) == ["w", "b"]
    np.testing.assert_array_equal(read["10"][0]["w"], np.zeros(2))


@pytest.mark.parametrize(
    ("names", "perhaps", "surely"),
    [
        ([["0.weight", "2.weight", "10.weight"]], False, False),
        ([["0.weight", "10.weight", "2.weight"]], True, True),
        ([["0.bias", "0.weight"]], True, True),
        ([["0.weight", "0.bias"]], False, False),
        ([["layer1.a"], ["layer2.a"]], False, False),
        ([["decoder.w", "encoder.w"]], True, False),
        ([["encoder.w", "decoder.w"]], False, False),
        ([["10.weight", "2.weight"], ["0.bias", "1.bias"]], True, True),
        ([["b"], ["a"]], False, False),
        ([["a"]], False, False),
        ([[]], False, False),
    ],
)
def test_what_counts_as_alphabetical(names, perhaps, surely):
    from torchwise.alphabetical import is_alphabetical

    assert (is_alphabetical(names), is_alphabetical(names, surely=True)) == (perhaps, surely)


def test_new_groups_are_in_the_order_of_passing_or_with_a_warning():
    passed = {"net": {"weight": jnp.ones(2), "bias": jnp.full(2, 3.0)}}
    for params, names in ((passed, ["weight", "bias"]), (sorted_tree(passed), ["bias", "weight"])):
        transform = torchwise.grouped(torchwise.sgd, params, [], lr=0.1, momentum=0.9)
        new, state = transform.step(params, transform.init(params), params)
        if names[0] == "weight":
            written = torchwise.to_state_dict(transform, state, new)
        else:
            with pytest.warns(UserWarning, match="goes by it and not by names"):
                written = torchwise.to_state_dict(transform, state, new)
        assert written["param_groups"][0]["param_names"] == [f"net.{name}" for name in names]
