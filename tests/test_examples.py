"""The examples run as they stand, and what they save goes on in torch."""

import importlib.util
import re
from pathlib import Path

import jax
import pytest
import torch

FOLDER = Path(__file__).parent.parent / "examples"
slow = pytest.mark.slow
# (file, arguments, least accuracy); an untrained network has 0.1.
EXAMPLES = [
    ("digits_plain_jax", ["--epochs", "6"], 0.95),
    pytest.param("digits_nnx", ["--epochs", "2"], 0.85, marks=slow),
    pytest.param("digits_linen", ["--epochs", "3"], 0.95, marks=slow),
    pytest.param("digits_equinox", ["--epochs", "2"], 0.9, marks=slow),
]


def example(name):
    """The module, which stands alone."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "argv", "least"), EXAMPLES)
def test_an_example_learns(name, argv, least, capsys):
    with jax.numpy_dtype_promotion("standard"):  # as users have it
        accuracy = example(name).main(argv)
    printed = capsys.readouterr().out
    losses = [float(value) for value in re.findall(r"loss (\d+\.\d+)", printed)]
    assert losses[-1] < losses[0] / 2
    assert least < accuracy <= 1
    assert f"test accuracy: {accuracy:.1%}" in printed


def test_the_page_shows_every_example():
    page = (FOLDER.parent / "docs" / "examples.md").read_text()
    names = [getattr(row, "values", row)[0] for row in EXAMPLES]
    assert names
    for name in names:
        assert f'--8<-- "examples/{name}.py"' in page
        assert f"(#{name}py)" in page
        assert len((FOLDER / f"{name}.py").read_text().splitlines()) <= 90


def torchs(norm=None):
    """The network of the examples in torch, with the names that their files have."""
    nn, net = torch.nn, torch.nn.Sequential()
    for number, (inputs, outputs) in enumerate([(1, 16), (16, 32)], start=1):
        net.add_module(f"conv{number}", nn.Conv2d(inputs, outputs, 3, padding=1))
        if norm is not None:
            net.add_module(f"norm{number}", norm(outputs))
        net.add_module(f"relu{number}", nn.ReLU())
        net.add_module(f"pool{number}", nn.MaxPool2d(2))
    net.add_module("flatten", nn.Flatten())
    net.add_module("head", nn.Linear(128, 10))
    return net


def numbered(net):
    """The same network, whose layers have numbers for names."""
    return torch.nn.Sequential(*net)


def decayed(net, decays):
    """torch's two groups, those with decay first or last, each in the order of the model."""
    named = dict(net.named_parameters())
    return [
        {"params": [pair for pair in named.items() if (pair[1].ndim > 1) == one]} for one in decays
    ]


SAVED = [
    (
        "digits_plain_jax",
        torchs,
        lambda net: torch.optim.SGD(decayed(net, (True, False))),
        "model",
    ),
    pytest.param(
        "digits_nnx",
        lambda: torchs(torch.nn.BatchNorm2d),
        lambda net: torch.optim.AdamW(decayed(net, (False, True))),
        "model",
        marks=slow,
    ),
    pytest.param(
        "digits_linen",
        lambda: torchs(torch.nn.BatchNorm2d),
        lambda net: torch.optim.SGD(net.named_parameters()),
        "model",
        marks=slow,
    ),
    pytest.param(
        "digits_equinox",
        lambda: numbered(torchs(lambda size: torch.nn.GroupNorm(4, size))),
        lambda net: torch.optim.NAdam(net.named_parameters()),
        "ema",
        marks=slow,
    ),
]


@pytest.mark.parametrize(("name", "make", "optimizer_of", "tested"), SAVED)
def test_what_an_example_saves_goes_on_in_torch(name, make, optimizer_of, tested, tmp_path):
    path = tmp_path / "digits.pt"
    module = example(name)
    with jax.numpy_dtype_promotion("standard"):
        accuracy = module.main(["--epochs", "1", "--save", str(path)])
    saved = torch.load(path, weights_only=True)
    digits = module.load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
    _, x, _, y = module.train_test_split(images, digits.target, test_size=360, random_state=0)

    net = make()
    net.load_state_dict(saved[tested])
    with torch.no_grad():
        theirs = (net.eval()(x).argmax(1).numpy() == y).mean()
    assert abs(theirs - accuracy) < 2 / 360  # sums in another order, in a close call

    optimizer = optimizer_of(net)
    names = [group["param_names"] for group in optimizer.param_groups]
    assert names == [group["param_names"] for group in saved["optimizer"]["param_groups"]]
    optimizer.load_state_dict(saved["optimizer"])
    assert len(optimizer.state) == len([*net.parameters()])
    for parameter, state in optimizer.state.items():
        assert all(value.shape in ((), parameter.shape) for value in state.values())
