"""Groups that are chosen by name: the tree of parameters stays, and torch's files fit."""

import io
from collections import OrderedDict

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

import torchwise
from distance import same_bits
from torch_oracle import correctly_rounded_sqrt, to_numpy, to_torch
from torchwise import dragon, groups, optim
from torchwise.optim import engine


def network():
    torch.manual_seed(0)
    layers = OrderedDict(
        stem=nn.Linear(3, 4), norm=nn.LayerNorm(4), block=nn.Linear(4, 4), head=nn.Linear(4, 2)
    )
    return nn.Sequential(layers)


def tree_of(model):
    """A nested dict in the model's order, which is not that of the alphabet."""
    tree = {}
    for name, value in model.named_parameters():
        owner, _, last = name.partition(".")
        tree.setdefault(owner, {})[last] = jnp.asarray(to_numpy(value))
    return tree


def is_plain(name, value):
    return name.endswith(".bias") or value.ndim <= 1


def in_torch(model):
    """No decay for biases and normalizations, and less of a rate for the stem."""
    named = dict(model.named_parameters())
    stem = [value for name, value in named.items() if name.startswith("stem")]
    plain = [v for n, v in named.items() if is_plain(n, v) and not n.startswith("stem")]
    rest = [v for n, v in named.items() if not is_plain(n, v) and not n.startswith("stem")]
    return [
        {"params": rest},
        {"params": plain, "weight_decay": 0.0},
        {"params": stem, "lr": 1e-3, "weight_decay": 0.3},
    ]


PATTERNS = [
    {},
    {"match": ["norm.*", "block.bias", "head.bias"], "weight_decay": 0.0},
    {"match": "stem.*", "lr": 1e-3, "weight_decay": 0.3},
]


def by_function(name, array):
    if name.startswith("stem"):
        return {"lr": 1e-3, "weight_decay": 0.3}
    return {"weight_decay": 0.0} if is_plain(name, array) else None


class Both:
    """The same groups and gradients in torch and here."""

    def __init__(self, kind="AdamW", spec=PATTERNS, theirs=in_torch, **hyperparameters):
        self.model, self.rng = network(), np.random.default_rng(0)
        self.theirs = getattr(torch.optim, kind)(theirs(self.model), **hyperparameters)
        self.ours = getattr(optim, kind)(tree_of(self.model), groups=spec, **hyperparameters)

    def tensors(self):
        return dict(self.model.named_parameters())

    def holders(self):
        return {one.name: one for group in self.ours.param_groups for one in group["params"]}

    def step(self, count=1):
        for _ in range(count):
            for name, tensor in self.tensors().items():
                grad = self.rng.normal(size=tensor.shape).astype("float32")
                tensor.grad = to_torch(grad) if tensor.requires_grad else None
                if name in (ours := self.holders()):
                    ours[name].grad = grad if ours[name].requires_grad else None
            with correctly_rounded_sqrt():
                self.theirs.step()
            self.ours.step()

    def assert_same(self):
        ours = {path[0].key + "." + path[1].key: leaf for path, leaf in leaves_of(self.ours)}
        for name, tensor in self.tensors().items():
            assert same_bits(ours[name], to_numpy(tensor)), name
        saved, wanted = self.ours.state_dict(), self.theirs.state_dict()
        assert saved["state"].keys() == wanted["state"].keys()
        for identity, entry in wanted["state"].items():
            for key, value in entry.items():
                mine = saved["state"][identity][key]
                assert same_bits(np.asarray(mine), to_numpy(value)), key
        for mine, theirs in zip(saved["param_groups"], wanted["param_groups"], strict=True):
            mine.pop("param_names")
            assert mine == theirs


def leaves_of(optimizer):
    return jax.tree.leaves_with_path(optimizer.params)


@pytest.mark.parametrize(("kind", "more"), [("AdamW", {}), ("SGD", {"momentum": 0.9})])
def test_groups_are_torchs_to_the_bit(kind, more):
    both = Both(kind, lr=1e-2, weight_decay=0.1, **more)
    both.step(3)
    both.assert_same()


def test_a_function_makes_groups_in_the_order_of_their_first_parameters():
    def theirs(model):
        decayed, plain, stem = in_torch(model)
        return [stem, plain, decayed]

    both = Both("SGD", by_function, theirs, lr=1e-2, weight_decay=0.1, momentum=0.9)
    both.step(2)
    both.assert_same()


def test_files_go_both_ways():
    both, other = (Both(lr=1e-2, weight_decay=0.1) for _ in range(2))
    both.step(2)
    file = io.BytesIO()
    torch.save(both.theirs.state_dict(), file)
    file.seek(0)
    other.ours.load_state_dict(torch.load(file, weights_only=True))
    saved = both.ours.state_dict()
    state = {
        key: {name: torch.tensor(np.asarray(value)) for name, value in entry.items()}
        for key, entry in saved["state"].items()
    }
    other.theirs.load_state_dict({**saved, "state": state})
    other.step()
    assert float(other.ours.state_dict()["state"][0]["step"]) == 3
    for group in other.theirs.param_groups:
        group.pop("param_names")  # which a torch without names loads and keeps
    other.assert_same()


def test_saved_names_are_those_of_named_parameters():
    model = network()
    named = [(name, value) for name, value in model.named_parameters() if "norm" in name]
    rest = [(name, value) for name, value in model.named_parameters() if "norm" not in name]
    theirs = torch.optim.SGD([{"params": named, "weight_decay": 0.0}, {"params": rest}], lr=0.1)
    ours = optim.SGD(tree_of(model), lr=0.1, groups=[{"match": "norm*", "weight_decay": 0.0}])
    assert ours.state_dict()["param_groups"] == theirs.state_dict()["param_groups"]


# One program, one loss function.


def layers(count):
    return {f"layer{index}": jnp.full(3, 1.0 + index) for index in range(count)}


def squares(params):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))


def test_one_loss_function_and_one_program_for_1_and_for_20_groups():
    each = [{"match": f"layer{index}", "lr": 0.1 / (1 + index)} for index in range(20)]
    ends = []
    for spec in (None, each):
        optimizer = optim.SGD(layers(20), lr=0.1, momentum=0.9, groups=spec)
        programs, steps = engine.train._cache_size(), engine.update._cache_size()
        for round_ in range(3):
            for group in optimizer.param_groups:
                group["weight_decay"] = 0.1 / (1 + round_)
            optimizer.train_step(squares)
        assert engine.train._cache_size() == programs + 1
        assert engine.update._cache_size() <= steps + 1  # traced within the other
        assert jax.tree.structure(optimizer.params) == jax.tree.structure(layers(20))
        ends.append(optimizer.params)
    assert same_bits(ends[0]["layer0"], ends[1]["layer0"])
    assert not same_bits(ends[0]["layer1"], ends[1]["layer1"])


class Scaled(eqx.Module):
    weight: jax.Array
    bias: jax.Array
    activation: object = jnp.tanh

    def __call__(self, x):
        return self.activation(self.weight * x + self.bias)


def test_the_loss_gets_the_tree_in_its_own_form():
    seen = []

    def of_module(model, x):
        seen.append(type(model))
        return jnp.sum(model(x))

    module = optim.SGD(Scaled(jnp.ones(2), jnp.ones(2)), 0.1, groups=[{"match": "bias"}])
    module.train_step(of_module, jnp.ones(2))
    graph, state = nnx.split(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), nnx.Param)

    def of_state(state, x):
        seen.append(type(state))
        return jnp.sum(nnx.merge(graph, state)(x))

    spec = [{"match": "*bias", "weight_decay": 0.0}]
    flax = optim.AdamW(state, lr=0.1, groups=spec)
    flax.train_step(of_state, jnp.ones(2))
    assert set(seen) == {Scaled, type(state)}
    assert [group["param_names"] for group in flax.param_groups] == [["bias"], ["kernel"]]
    assert isinstance(module.params, Scaled)
    assert isinstance(flax.params, type(state))


# In the middle of a run.


def test_frozen_parameters_keep_value_and_state_as_in_torch():
    both = Both(lr=1e-2, weight_decay=0.1)
    both.step(2)
    before = both.holders()["stem.weight"].data
    assert both.ours.freeze("stem.*", "norm.bias") == ["norm.bias", "stem.weight", "stem.bias"]
    for name in ("stem.weight", "stem.bias", "norm.bias"):
        both.tensors()[name].requires_grad_(False)
    both.step(2)
    assert same_bits(both.holders()["stem.weight"].data, before)
    both.assert_same()
    both.ours.unfreeze("stem.*")
    for name in ("stem.weight", "stem.bias"):
        both.tensors()[name].requires_grad_(True)
    both.step(2)
    both.assert_same()
    counts = [int(entry["step"]) for entry in both.ours.state_dict()["state"].values()]
    assert sorted(counts) == [2, 4, 4, 6, 6, 6, 6, 6]


def test_freezing_forgets_gradients():
    optimizer = optim.SGD({"a": jnp.ones(2), "b": jnp.ones(2)}, lr=0.5)
    optimizer.backward(squares)
    optimizer.freeze("a")
    optimizer.step()
    assert optimizer.params["a"].tolist() == [1.0, 1.0]
    assert optimizer.params["b"].tolist() == [0.0, 0.0]
    optimizer.train_step(lambda params: jnp.sum(params["a"] * params["b"] + params["b"]))
    assert optimizer.params["a"].tolist() == [1.0, 1.0]
    assert optimizer.params["b"].tolist() == [-1.0, -1.0]


def test_a_group_that_was_left_out_joins_as_in_torch():
    def head(model):
        return [{"params": list(model.head.parameters())}]

    spec = [{"match": ["stem.*", "norm.*", "block.*"], "leave_out": True}]
    both = Both("SGD", spec, head, lr=0.1, momentum=0.9)
    both.step(2)
    both.assert_same()
    both.ours.add_param_group({"match": ["stem.*", "norm.*"], "lr": 0.01})
    both.theirs.add_param_group(
        {"params": [*both.model.stem.parameters(), *both.model.norm.parameters()], "lr": 0.01}
    )
    both.step(2)
    both.assert_same()


def test_new_parameters_join_the_tree():
    optimizer = optim.SGD({"net": {"a": jnp.ones(1)}}, lr=0.5, groups=[{}])
    optimizer.train_step(squares)
    optimizer.add_param_group({"params": {"net": {"b": jnp.ones(1)}}, "lr": 0.25})
    optimizer.train_step(squares)
    found = {"net": {"a": [0.0], "b": [0.5]}}
    assert jax.tree.map(lambda leaf: leaf.tolist(), optimizer.params) == found
    assert optimizer.param_groups[1]["param_names"] == ["net.b"]


# The rules of trainers.


class Trained(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 2))
        self.conv = nn.Conv2d(2, 2, 1)
        self.down = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2))
        self.ln_1 = nn.LayerNorm(2)
        self.fc = nn.Linear(2, 2)


def names_in(found):
    return [(group["param_names"], group["weight_decay"]) for group in found.param_groups]


def split(model, chosen):
    """The names that a trainer puts aside, which asks for types, and the others."""
    named = [name for name, _ in model.named_parameters()]
    return [n for n in named if n in chosen], [n for n in named if n not in chosen]


def trained(rule):
    values = [(name, to_numpy(value)) for name, value in Trained().named_parameters()]
    return names_in(optim.SGD(values, lr=0.1, groups=rule))


def test_rules_make_the_groups_of_their_trainers():
    model, norms = Trained(), (nn.LayerNorm, nn.BatchNorm2d)
    of_norms = {
        f"{owner}.{name}"
        for owner, module in model.named_modules()
        if isinstance(module, norms)
        for name, _ in module.named_parameters()
    }
    biases = {name for name, _ in model.named_parameters() if name.endswith("bias")}
    small = {name for name, value in model.named_parameters() if value.ndim <= 1}

    plain, decayed = split(model, of_norms | biases)
    assert trained(groups.hugging_face(0.1)) == [(decayed, 0.1), (plain, 0.0)]
    plain, decayed = split(model, small | {"token"})
    assert trained(groups.timm(0.2, no_decay="token")) == [(plain, 0.0), (decayed, 0.2)]
    normal, other = split(model, of_norms)
    assert trained(groups.torchvision(0.3)) == [([*dict(model.named_parameters())], 0.3)]
    both = groups.torchvision(0.3, norm_weight_decay=0.1)
    assert trained(both) == [(other, 0.3), (normal, 0.1)]
    third, rest = split(model, biases)
    all_three = groups.torchvision(0.3, norm_weight_decay=0.1, bias_weight_decay=0.2)
    assert trained(all_three) == [
        ([name for name in rest if name not in of_norms], 0.3),
        ([name for name in rest if name in of_norms], 0.1),
        (third, 0.2),
    ]


@pytest.mark.parametrize("as_function", [False, True])
def test_layers_decay_as_in_timm(as_function):
    named = dict(Trained().named_parameters())
    patterns = [["token", "conv.*"], "down.*"]
    number = {"token": 0, "conv": 0, "down": 1}

    def layer(name):
        return number.get(name.partition(".")[0], 2)

    layers = layer if as_function else [*patterns, ["ln_1.*", "fc.*"]]
    wanted = {}
    for name, value in named.items():
        plain = value.ndim <= 1
        options = {
            "lr": 2.0 * 0.5 ** (2 - layer(name)),
            "lr_scale": 0.5 ** (2 - layer(name)),
            "weight_decay": 0.0 if plain else 0.05,
        }
        wanted.setdefault((layer(name), plain), (options, []))[1].append(name)
    rule = groups.layer_decay(2.0, layers, decay=0.5)
    values = [(name, to_numpy(value)) for name, value in named.items()]
    ours = optim.SGD(values, lr=2.0, groups=rule)
    assert [
        ({key: group[key] for key in ("lr", "lr_scale", "weight_decay")}, group["param_names"])
        for group in ours.param_groups
    ] == list(wanted.values())


def test_an_empty_group_of_a_rule_is_saved_and_loaded():
    params = {"weight": jnp.ones((2, 2))}
    ours = optim.AdamW(params, lr=0.1, groups=groups.hugging_face(0.1))
    ours.train_step(squares)
    saved = ours.state_dict()
    assert [group["params"] for group in saved["param_groups"]] == [[0], []]
    ours.load_state_dict(saved)
    transform, state = torchwise.from_state_dict(saved, params)
    again = torchwise.to_state_dict(transform, state, params)
    assert again["param_groups"] == saved["param_groups"]
    assert jax.tree.all(jax.tree.map(same_bits, again["state"], saved["state"]))


# Pure functions.


def test_pure_groups_are_the_stateful_ones_and_torch_loads_them():
    both = Both(lr=1e-2, weight_decay=0.1)
    params = tree_of(both.model)
    transform = torchwise.grouped(torchwise.adamw, params, PATTERNS, lr=1e-2, weight_decay=0.1)
    state, step = transform.init(params), jax.jit(transform.step)
    for _ in range(2):
        both.step()
        grads = {name: tensor.grad.numpy() for name, tensor in both.tensors().items()}
        nested = {
            owner: {last: grads[f"{owner}.{last}"] for last in inner}
            for owner, inner in params.items()
        }
        params, state = step(nested, state, params)
    assert jax.tree.all(jax.tree.map(same_bits, params, both.ours.params))
    saved, wanted = torchwise.to_state_dict(transform, state, params), both.ours.state_dict()
    assert saved["param_groups"] == wanted["param_groups"]
    assert jax.tree.all(jax.tree.map(same_bits, saved["state"], wanted["state"]))


def test_pure_groups_take_schedules_and_keep_what_a_rule_has_noted():
    params = {"a": jnp.ones((2, 2)), "b": jnp.ones((2, 2))}

    def rate(count):
        return 0.5 * 0.5**count

    transform = torchwise.grouped(torchwise.sgd, params, [{"match": "a", "lr": rate}], lr=1.0)
    params, state = transform.step(params, transform.init(params), params)
    assert params["a"].tolist() == [[0.5, 0.5]] * 2
    assert params["b"].tolist() == [[0.0, 0.0]] * 2
    assert torchwise.to_state_dict(transform, state, params)["param_groups"][0]["lr"] == 0.25
    rule = groups.layer_decay(1.0, ["a", "b"], decay=0.5)
    noted = torchwise.grouped(torchwise.sgd, params, rule)
    found = torchwise.to_state_dict(noted, noted.init(params), params)["param_groups"]
    assert [group["lr_scale"] for group in found] == [0.5, 1.0]


# What is refused.

TREE = {"net": {"weight": jnp.ones(2), "bias": jnp.ones(2)}}
WRONG = {
    "'\\*.bais' matches no parameter; near names are 'net.bias'": [{"match": "*.bais"}],
    "the names begin with 'net.weight', 'net.bias'": [{"match": "zzz"}],
    "'net.bias' is matched by '\\*bias' of group 0 and by 'net.\\*' of group 1": [
        {"match": "*bias"},
        {"match": "net.*"},
    ],
    "group 0 has the option 'weight_deacy'": [{"match": "*bias", "weight_deacy": 0}],
    "'match' of group 0 has no pattern": [{"match": []}],
    "'match' of group 0 takes a pattern on names": [{"match": 3}],
    "groups is a list of dicts": 3,
    "the function groups.timm itself: call it": groups.timm,
    "groups is a list of dicts with": {"match": "*"},
    "the second one without 'match'": [{}, {}],
    "group 0 of groups has 'params'": [{"params": TREE}],
    "groups\\('net.weight', array\\) returned 3": lambda name, array: 3,
    "no_decay: 'pos' matches no parameter": groups.timm(0.1, no_decay="pos"),
    "layer 1 of layers: 'zzz' matches no": groups.layer_decay(0.1, ["net*", "zzz"]),
    "layers\\('net.weight'\\) is no layer": groups.layer_decay(0.1, lambda name: -1),
    "Invalid weight_decay value: -1": [{"match": "*bias", "weight_decay": -1}],
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_groups_have_one_clear_error_in_both_interfaces(message):
    with pytest.raises((TypeError, ValueError), match=message):
        optim.AdamW(TREE, lr=0.1, groups=WRONG[message])
    with pytest.raises((TypeError, ValueError), match=message):
        torchwise.grouped(torchwise.adamw, TREE, WRONG[message], lr=0.1)


def test_wrong_calls_change_nothing():
    everything = [{"match": "*"}]
    with pytest.raises(ValueError, match="a list of arrays does not have"):
        optim.SGD([jnp.ones(2)], groups=everything)
    with pytest.raises(ValueError, match="a list of arrays does not have"):
        torchwise.grouped(torchwise.sgd, [jnp.ones(2)], everything)
    with pytest.raises(ValueError, match="groups are given twice"):
        optim.SGD([{"params": TREE}], groups=everything)
    with pytest.raises(ValueError, match="groups leave out all parameters"):
        optim.SGD(TREE, groups=[{"match": "*", "leave_out": True}])
    with pytest.raises(TypeError, match="the function that makes the optimizer"):
        torchwise.grouped(torchwise.sgd(0.1), TREE, everything)
    with pytest.raises(TypeError, match="is no optimizer of torchwise"):
        torchwise.grouped(lambda **_: torchwise.maximize(), TREE, everything)
    clipped = torchwise.chain(torchwise.clip_grad_norm(1.0), torchwise.sgd(0.1))
    with pytest.raises(TypeError, match="the gradients of each group by itself; put what needs"):
        torchwise.grouped(lambda **_: clipped, TREE, everything)
    with pytest.raises(ValueError, match="a parameter stays as it is at a step where its grad"):
        torchwise.grouped(torchwise.sgd, TREE, [{"match": "*", "leave_out": True}])
    with pytest.raises(ValueError, match="layers is a list with patterns"):
        groups.layer_decay(0.1, "net*")

    optimizer = optim.SGD(TREE, lr=0.1, groups=[{"match": "*bias", "leave_out": True}])
    for call, message in [
        (optimizer.freeze, "freeze\\(\\) has no pattern"),
        (lambda: optimizer.freeze(["net.*"]), "each pattern as an argument of its own"),
        (lambda: optimizer.freeze("net.wight"), "near names are 'net.weight'"),
        (lambda: optimizer.unfreeze("zzz"), "unfreeze\\(\\): 'zzz' matches no parameter"),
        (lambda: optimizer.add_param_group({"match": "*weight"}), "is in group 0 already"),
        (lambda: optimizer.add_param_group({"match": "zzz"}), "'zzz' matches no parameter"),
        (lambda: optimizer.add_param_group({"match": "*", "params": []}), "not both"),
        (lambda: optimizer.add_param_group({"match": "*bias", "rl": 1}), "the option 'rl'"),
        (lambda: optimizer.add_param_group({"match": "*bias", "lr": -1}), "Invalid learning rate"),
        (
            lambda: optimizer.add_param_group({"params": jax.tree.map(jnp.copy, TREE)}),
            "is a parameter 'net.bias' already",
        ),
        (lambda: optimizer.add_param_group({"params": [("b", jnp.ones(1))], "lr": -1}), "Invalid"),
        (optimizer.to_functional, "'net.bias' is in 0 groups"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            call()
    assert [group["param_names"] for group in optimizer.param_groups] == [["net.weight"]]
    assert jax.tree.structure(optimizer.params) == jax.tree.structure(TREE)


def test_dragon_has_groups_by_name():
    spec = [{"match": "*bias", "lr_mult": 2}]
    optimizer = dragon.SGD(TREE, lr=0.25, groups=spec)
    optimizer.backward(lambda params: jnp.sum(params["net"]["weight"] + params["net"]["bias"]))
    optimizer.step()
    found = jax.tree.map(lambda leaf: leaf.tolist(), optimizer.params)
    assert found == {"net": {"weight": [0.75, 0.75], "bias": [0.5, 0.5]}}


def test_a_rate_that_is_changed_in_place_is_seen():
    rate = np.array(0.5, np.float32)
    optimizer = optim.SGD({"a": jnp.ones(1)}, lr=0.1, groups=[{"match": "a", "lr": rate}])
    for _ in range(2):
        optimizer.train_step(lambda params: jnp.sum(params["a"]))
        rate[...] = 0.25
    assert optimizer.params["a"].tolist() == [0.25]
