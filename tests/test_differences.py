"""What torch.optim has in public and we have not stands in docs/differences.md, by its name."""

import inspect
import re
from pathlib import Path

import pytest
import torch

import torchwise
from torchwise import optim

ROWS = [
    line
    for line in (Path(__file__).parent.parent / "docs" / "differences.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith(("| **", "| ---"))
]
MODULES = {
    "torch.optim": (torch.optim, optim),
    "torch.optim.lr_scheduler": (torch.optim.lr_scheduler, optim.lr_scheduler),
    "torch.optim.swa_utils": (torch.optim.swa_utils, optim.swa_utils),
    "torch.nn.utils.clip_grad": (torch.nn.utils.clip_grad, torchwise.nn.utils),
}
BOTH = {
    name: (getattr(theirs, name), getattr(ours, name))
    for theirs, ours in MODULES.values()
    for name in theirs.__all__
    if hasattr(ours, name) and not inspect.ismodule(getattr(ours, name))
}
# `AveragedModel` is a module there: one row says that none of a module's methods are here.
INHERITED = {"AveragedModel": {*dir(torch.nn.Module)}}


def is_listed(name):
    return any(re.search(rf"`[^`]*\b{re.escape(name)}\b[^`]*`", row) for row in ROWS)


def parameters(function):
    return inspect.signature(function).parameters


def missing_names():
    """Public names of torch's modules, and public attributes of its classes."""
    for theirs, ours in MODULES.values():
        yield from (name for name in theirs.__all__ if not hasattr(ours, name))
    for name, (theirs, ours) in BOTH.items():
        if inspect.isclass(theirs):
            public = {one for one in dir(theirs) if not one.startswith("_")}
            yield from public - {*dir(ours)} - INHERITED.get(name, set())


def functions():
    """Functions, constructors and methods that both have."""
    for name, (theirs, ours) in BOTH.items():
        if not inspect.isclass(theirs):
            yield name, theirs, ours
            continue
        for method in ["__init__", *(one for one in dir(theirs) if not one.startswith("_"))]:
            known = callable(getattr(theirs, method)) and callable(getattr(ours, method, None))
            if known and not (method != "__init__" and method in INHERITED.get(name, ())):
                yield f"{name}.{method}", getattr(theirs, method), getattr(ours, method)


FUNCTIONS = {label: pair for label, *pair in functions()}


def test_the_walk_reaches_everything():
    assert {"SGD.__init__", "Adam.add_param_group", "OneCycleLR.__init__", "LBFGS.step"} <= {
        *FUNCTIONS
    }
    assert {"clip_grad_norm_", "SWALR.step", "ReduceLROnPlateau.step"} <= {*FUNCTIONS}
    assert len(ROWS) > 90
    assert not is_listed("a_name_that_is_nowhere")


@pytest.mark.parametrize("name", sorted({*missing_names()}))
def test_what_is_left_out_has_a_row(name):
    assert is_listed(name), f"docs/differences.md has no row for {name}"


@pytest.mark.parametrize("label", FUNCTIONS)
def test_signatures_are_torchs(label):
    """Names, order and defaults; what else we take comes behind."""
    if label == "Optimizer.__init__":
        assert is_listed("defaults")  # torch's subclasses pass them, ours name a rule
        return
    theirs, ours = map(parameters, FUNCTIONS[label])
    by_place = [
        [one.name for one in them.values() if one.kind <= one.POSITIONAL_OR_KEYWORD]
        for them in (theirs, ours)
    ]
    assert by_place[1][: len(by_place[0])] == by_place[0]
    for name, one in theirs.items():
        assert name in ours, f"{label}: {name}"
        assert ours[name].default == one.default, f"{label}: {name}"


def test_arguments_without_an_effect_have_a_row():
    """Those that only choose an implementation, which stand in groups and dicts."""
    (row,) = [row for row in ROWS if "without effect" in row and "`fused`, `diff" in row]
    assert all(f"`{name}`" in row for name in ("foreach", "fused", "differentiable", "capturable"))
