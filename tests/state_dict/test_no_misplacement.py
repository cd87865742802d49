"""Random models, groups, orders and calls: each load and each dict is right, or is refused.

Every parameter has its own mark in its state and in nothing else, so that a state on another
parameter is seen whatever the shapes are. Trees are of numpy and steps of SGD's first momentum, so
that nothing is compiled.
"""

import itertools
import re
import warnings
from collections import Counter
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import torchwise
from rounds import exhaustive
from torchwise import optim

SEEN: Counter[str] = Counter()
SHAPES = st.sampled_from([(1,), (1,), (1,), (2,), (1, 2), (2, 1)])
MODULES = st.sampled_from(["0", "1", "2", "9", "10", "11", "head", "body", "a.2", "a.10", "b"])
KINDS = st.sampled_from(["weight", "bias", "scale"])
NAME = st.builds("{}.{}".format, MODULES, KINDS)
GROUP = {"lr": 0.1, "momentum": 0.9, "dampening": 0, "weight_decay": 0, "nesterov": False}


class Run(NamedTuple):
    """A run of torch.

    Attributes:
        shapes: of each parameter, by name, in the order of the model.
        groups: the names in each group of the optimizer.
        marks: the momentum of each parameter that has any.
        settings: the weight decay of each group.
        saved: the optimizer's dict, with numbers for ids and without names.
    """

    shapes: dict[str, tuple[int, ...]]
    groups: list[list[str]]
    marks: dict[str, float]
    settings: list[float]
    saved: dict[str, Any]

    def decay(self) -> dict[str, float]:
        return {name: x for own, x in zip(self.groups, self.settings) for name in own}


@st.composite
def runs(draw):
    names = draw(st.lists(NAME, min_size=1, max_size=7, unique=True))
    if draw(st.booleans()):  # as most models have them
        names.sort(key=lambda name: [int(x) if x.isdigit() else -1 for x in name.split(".")])
    shapes = {name: draw(SHAPES) for name in names}
    number = draw(st.integers(1, 3))
    owner = {name: draw(st.integers(0, number - 1)) for name in names}
    groups = [own for n in range(number) if (own := [x for x in names if owner[x] == n])]
    settings_ = [draw(st.sampled_from([0.0, 0.5])) for _ in groups]
    state = draw(st.sampled_from(["all", "all", "some", "none"]))
    with_state = [
        name for name in names if state == "all" or (state == "some" and draw(st.booleans()))
    ]
    marks = {name: float(index + 1) for index, name in enumerate(with_state)}
    ids = {name: index for index, name in enumerate(itertools.chain(*groups))}
    return Run(
        shapes,
        groups,
        marks,
        settings_,
        {
            "state": {
                ids[name]: {"momentum_buffer": np.full(shapes[name], mark, np.float32)}
                for name, mark in marks.items()
            },
            "param_groups": [
                {**GROUP, "weight_decay": x, "params": [ids[name] for name in own]}
                for own, x in zip(groups, settings_)
            ],
        },
    )


@st.composite
def trees(draw, run):
    """The parameters of a run in a flat or a nested dict, in some order."""
    order = draw(st.sampled_from(["model", "sorted", "optimizer", "any"]))
    names = {
        "model": [*run.shapes],
        "sorted": sorted(run.shapes),
        "optimizer": [*itertools.chain(*run.groups)],
        "any": draw(st.permutations([*run.shapes])),
    }[order]
    flat = {name: np.ones(run.shapes[name], np.float32) for name in names}
    if not draw(st.booleans()):
        return flat
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split(".")
        node = nested
        for key in path:
            node = node.setdefault(key, {})
        node[last] = value
    return nested


def by_name(tree):
    entries = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="."): x for p, x in entries}


def passed(tree):
    """The names in the order of insertion."""
    if not isinstance(tree, dict):
        return [""]
    return [f"{key}.{name}".rstrip(".") for key in tree for name in passed(tree[key])]


def numbered(names):
    """Whether names differ in growing numbers, as those of a `Sequential`.

    A model that has them in another order, or a caller who gives that of the model for an optimizer
    with several groups, cannot be told from one who is right.
    """
    pairs = (zip(a.split("."), b.split(".")) for a, b in itertools.pairwise(names))
    first = [next((x, y) for x, y in pair if x != y) for pair in pairs]
    return all(x.isdigit() and y.isdigit() and int(x) < int(y) for x, y in first)


@st.composite
def said(draw, run, tree):
    """What a caller says, the truth as far as he says anything; and a copy of the dict."""
    saved = {
        "state": dict(run.saved["state"]),
        "param_groups": [dict(group) for group in run.saved["param_groups"]],
    }
    ids = [*itertools.chain(*run.groups)]
    way = draw(st.sampled_from(["nothing", "nothing", "names", "file", "given", "dict", "ids"]))
    options: dict[str, Any] = {}
    if way == "names":
        options["names"] = draw(st.sampled_from([ids, [list(one) for one in run.groups]]))
    elif way == "file" and not numbered(sorted(run.shapes)):  # the keys of a safetensors file
        options["names"] = sorted(run.shapes)
    elif way == "given" and passed(tree) == ids:
        options["order"] = "given"
    elif way == "dict":
        for group, own in zip(saved["param_groups"], run.groups):
            group["param_names"] = own
    elif way == "ids":
        saved["state"] = {ids[key]: entry for key, entry in saved["state"].items()}
        for group, own in zip(saved["param_groups"], run.groups):
            group["params"] = own
    return way, saved, options


def refused(call, *arguments, **options):
    """What a call returns; None if it refuses, or warns."""
    text = "shapes do not tell|now there is state|does not fit"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return call(*arguments, **options)
        except (ValueError, UserWarning) as error:
            return pytest.fail(str(error)) if not re.search(text, str(error)) else None


def momentum(transform, state):
    """The momentum and the weight decay of each parameter."""
    found, decay = {}, {}
    chains = (
        [state]
        if len(transform.chains) == 1
        else [one.inner_state for one in state.inner_states.values()]
    )
    for chain, inner in zip(transform.chains, chains):
        (buffers,) = (
            one.momentum_buffer for one in inner.states if hasattr(one, "momentum_buffer")
        )
        for name, value in by_name(buffers).items():
            found[name] = float(np.ravel(value)[0])
            decay[name] = float(chain.rule.weight_decay)
    return found, decay


def check_load(run, tree, way, saved, options):
    """Load; then each parameter has its own momentum and its own weight decay."""
    loaded = refused(torchwise.from_state_dict, saved, tree, **options)
    SEEN[f"{way}: {'refused' if loaded is None else 'loaded'}"] += 1
    if loaded is None:
        assert way not in ("dict", "ids")
        return None
    found, decay = momentum(*loaded)
    assert decay == run.decay()
    assert found == {name: run.marks.get(name, -0.0) for name in run.shapes}
    return loaded


def check_back(run, loaded, tree, wrapped, names):
    """Write a dict with a new mark for each parameter; then each id of torch has its own."""
    transform, state = loaded
    marks = {name: float(100 + index) for index, name in enumerate(sorted(run.shapes))}
    state = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.full(leaf.shape, marks[own_name(path, marks)], np.float32), state
    )
    outer: Any = transform
    if wrapped:
        outer, state = optax.chain(optax.clip(1.0), transform), (optax.EmptyState(), state)
    options = {"names": [*itertools.chain(*run.groups)]} if names else {}
    written = refused(torchwise.to_state_dict, outer, state, tree, **options)
    SEEN[f"back: {'refused' if written is None else 'written'}"] += 1
    if written is not None:
        assert_dict(run, written, marks)


def own_name(path, marks):
    """The name of a parameter, at the end of the path of its state."""
    whole = jax.tree_util.keystr(path, simple=True, separator=".")
    return next(
        name for name in sorted(marks, key=len, reverse=True) if whole.endswith(f"buffer.{name}")
    )


def assert_dict(run, written, marks):
    """By place, as torch reads it; by name where the ids are names."""
    assert [group["weight_decay"] for group in written["param_groups"]] == run.settings
    for group, own in zip(written["param_groups"], run.groups):
        for identity, name in zip(group["params"], own, strict=True):
            if isinstance(identity, str):
                name = identity
                assert name in own
            buffer = written["state"].get(identity, {}).get("momentum_buffer")
            assert buffer is None or buffer.shape == run.shapes[name]
            assert buffer is None or float(np.ravel(buffer)[0]) == marks[name], (identity, name)


def check_new(run, tree, names):
    """A chain that was made here, written for a torch optimizer with one group."""
    transform = torchwise.sgd(0.1, momentum=0.9)
    marks = {name: float(index + 1) for index, name in enumerate(sorted(run.shapes))}
    state = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.full(leaf.shape, marks[own_name(path, marks)], np.float32),
        transform.init(tree),
    )
    options = {"names": [*run.shapes]} if names else {}
    if not names and passed(tree) == [*run.shapes]:
        options = {"order": "given"}
    written = refused(torchwise.to_state_dict, transform, state, tree, **options)
    SEEN[f"new: {'refused' if written is None else 'written'}"] += 1
    if written is None:
        return
    (group,) = written["param_groups"]
    for identity, name in zip(group["params"], run.shapes, strict=True):
        buffer = written["state"][identity]["momentum_buffer"]
        # Other shapes than the parameter's are an error at torch's next step.
        assert buffer.shape != run.shapes[name] or float(np.ravel(buffer)[0]) == marks[name]


def check_stateful(run, tree, saved, way):
    """The class goes by place, over the order of passing; or by name."""
    flat = by_name(tree)
    groups = [{"params": {name: flat[name] for name in own}} for own in run.groups]
    optimizer = optim.SGD(groups, lr=0.1)
    optimizer.load_state_dict(saved)
    SEEN["stateful"] += 1
    for group, own, decay in zip(optimizer.param_groups, run.groups, run.settings):
        assert group["weight_decay"] == decay
        for parameter, name in zip(group["params"], own, strict=True):
            held = optimizer.state.get(parameter, {})
            assert bool(held) == (name in run.marks)
            if held:
                assert float(np.ravel(held["momentum_buffer"])[0]) == run.marks[name]
    written = optimizer.state_dict()
    assert_dict(run, written, run.marks)
    assert all(isinstance(key, str) == (way == "ids") for key in written["state"])


@st.composite
def trials(draw):
    run = draw(runs())
    tree = draw(trees(run))
    return run, tree, *draw(said(run, tree)), draw(st.booleans()), draw(st.booleans())


def check(trial):
    run, tree, way, saved, options, wrapped, names = trial
    loaded = check_load(run, tree, way, saved, options)
    if loaded is not None:
        check_back(run, loaded, tree, wrapped, names)
    check_new(run, tree, names)
    check_stateful(run, tree, saved, way)


FAST = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FAST
@given(trials())
def test_no_state_and_no_setting_lands_on_another_parameter(trial):
    check(trial)


@exhaustive
def test_not_in_ten_thousand_trials():
    """Every answer was met: calls that were right, and calls that were refused."""
    SEEN.clear()
    settings(FAST, max_examples=10_000)(given(trials())(check))()
    print(SEEN)
    met = [f"{way}: {answer}" for way in ("nothing", "file") for answer in ("loaded", "refused")]
    met += ["names: loaded", "given: loaded", "dict: loaded", "ids: loaded"]
    met += [f"{way}: {answer}" for way in ("back", "new") for answer in ("written", "refused")]
    assert all(SEEN[one] > 100 for one in met), SEEN


@pytest.mark.parametrize("way", ["nothing", "file"])
def test_the_property_sees_what_is_wrong(way):
    """The check itself fails where a state is on another parameter."""
    shapes = {"b": (1,), "a": (1,)}
    saved = {
        "state": {n: {"momentum_buffer": np.full(1, n + 1, np.float32)} for n in (0, 1)},
        "param_groups": [{**GROUP, "params": [0, 1]}],
    }
    run = Run(shapes, [["b", "a"]], {"b": 1.0, "a": 2.0}, [0.0], saved)
    tree = {name: np.ones(1, np.float32) for name in shapes}
    assert check_load(run, tree, way, saved, {"names": ["a", "b"]} if way == "file" else {}) is None
    with pytest.raises(AssertionError):
        check_load(run, tree, way, saved, {"names": ["a", "b"], "order": "given"})
