"""The command line, as a user runs it."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from torchwise import checkpoint, cli

DATA = Path(__file__).parent / "checkpoint" / "data"
COMMAND = [sys.executable, "-m", "torchwise.cli"]


@pytest.fixture
def nested(tmp_path):
    """A training checkpoint with two groups, names, a parameter without state, and a half type."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Linear(1, 1).bfloat16())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(3.0)
    names = list(model.named_parameters())
    optimizer = torch.optim.Adagrad([{"params": names[:1], "lr": 0.5}, {"params": names[1:2]}])
    for _, parameter in names:
        parameter.grad = torch.full_like(parameter, 2.0)
    optimizer.step()
    value = {"net": {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "epoch": 7}
    del value["net"]["optimizer"]["state"][1]
    path = tmp_path / "nested.pt"
    torch.save(value, path)
    return path


def test_a_nested_checkpoint_is_laid_open(nested, capsys):
    assert cli.main(["inspect", str(nested)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        "net.model: 4 tensors",
        "  name      shape   dtype     norm",
        "  0.weight  (1, 2)  float32   3.53553",
        "  0.bias    (1,)    float32   2.99",
        "  1.weight  (1, 1)  bfloat16  3",
    ]
    rest = lines[6:]
    assert rest[:3] == [
        "net.optimizer: optimizer, 2 groups",
        "group 0: Adagrad, 1 parameter",
        "  lr = 0.5",
    ]
    assert rest[11:16] == [
        "  id  name      shape   dtype    step  |sum|",
        "  0   0.weight  (1, 2)  float32  1     5.65685",
        "group 1: Adagrad, 1 parameter",
        "  lr = 0.01",
        "  lr_decay = 0",
    ]
    assert rest[-3:] == ["  id  name    shape  dtype", "  1   0.bias  -      -", "epoch: 7"]


def test_an_optimizer_alone_and_an_unknown_one(tmp_path, capsys):
    tensor = torch.nn.Parameter(torch.ones(2))
    saved = torch.optim.Adam([tensor], betas=(0.5, 0.25)).state_dict()
    torch.save(saved, tmp_path / "adam.pt")
    assert cli.main(["inspect", str(tmp_path / "adam.pt")]) == 0
    assert "group 0: Adam, 1 parameter" in capsys.readouterr().out
    saved["param_groups"][0]["rho"] = 0.5
    torch.save(saved, tmp_path / "other.pt")
    assert cli.main(["inspect", str(tmp_path / "other.pt")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "(the whole file): optimizer, 1 group",
        "group 0: unknown optimizer, 1 parameter",
    ]
    assert "  betas = (0.5, 0.25)" in lines
    assert lines[-1] == "  0   -     -      -"


@pytest.mark.parametrize(
    ("array", "norm"),
    [
        (np.array([3.0, 4.0]) * 1e200, "5e+200"),
        (np.full(4, 2.0, ml_dtypes.bfloat16), "4"),
        (np.array([3 + 4j]), "5"),
        (np.array([True, False]), "1"),
        (np.zeros((0, 3), np.float32), "0"),
        (np.array([1.0, np.nan]), "nan"),
        (np.array([1.0, -np.inf]), "inf"),
    ],
)
def test_norms_are_exact_for_every_type_and_size(array, norm, tmp_path, capsys):
    checkpoint.save(tmp_path / "a.pt", {"a": array})
    assert cli.main(["inspect", str(tmp_path / "a.pt")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[-1] == norm


def test_other_values_are_one_line_each(tmp_path, capsys):
    value = {"list": [1, {"deep": np.ones(2)}], "text": "x" * 500, "none": None, "empty": {}}
    checkpoint.save(tmp_path / "a.pt", value)
    assert cli.main(["inspect", str(tmp_path / "a.pt")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "list.0",
        "list.1",
        "  name  shape  dtype    norm",
        "  deep  (2,)   float64  1.41421",
        "text",
        "none",
        "empty",
    ]
    assert max(map(len, lines)) <= 210


def test_names_in_a_file_cannot_command_the_terminal(tmp_path, capsys):
    checkpoint.save(tmp_path / "a.pt", {"\x1b[2J\n\ud800": np.ones(1)})
    assert cli.main(["inspect", str(tmp_path / "a.pt")]) == 0
    assert r"\x1b[2J\n\ud800" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".safetensors", ".PTH"])
def test_conversion_both_ways_loses_nothing(nested, tmp_path, capsys, suffix):
    there, back = tmp_path / f"there{suffix}", tmp_path / "back.pt"
    assert cli.main(["convert", str(nested), str(there)]) == 0
    assert cli.main(["convert", str(there), str(back)]) == 0
    assert capsys.readouterr().out.startswith(f"{there}: ")
    first = torch.load(nested, weights_only=True)
    second = torch.load(back, weights_only=True)
    checkpoint.save(tmp_path / "direct.pt", checkpoint.load(nested))
    assert back.read_bytes() == (tmp_path / "direct.pt").read_bytes()
    assert list(second["net"]["optimizer"]["param_groups"][0]) == list(
        first["net"]["optimizer"]["param_groups"][0]
    )


def error_of(arguments, capsys):
    assert cli.main(list(map(str, arguments))) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("torchwise: error: ")
    return line


def test_the_input_is_never_overwritten(nested, tmp_path, capsys):
    before = nested.read_bytes()
    link = tmp_path / "link.pt"
    link.symlink_to(nested)
    for target in (nested, tmp_path / "." / "nested.pt", link):
        assert "is the input, which is not overwritten" in error_of(
            ["convert", nested, target], capsys
        )
    assert nested.read_bytes() == before


def test_errors_are_one_line(nested, tmp_path, capsys):
    broken = tmp_path / "broken.pt"
    broken.write_bytes(nested.read_bytes()[:100])
    assert "No such file" in error_of(["inspect", tmp_path / "nothing.pt"], capsys)
    assert "broken.pt: " in error_of(["inspect", broken], capsys)
    assert "is not one of .pt, .pth, .saf" in error_of(["convert", nested, "a.npz"], capsys)
    assert "No such file" in error_of(["convert", nested, tmp_path / "no" / "a.pt"], capsys)
    checkpoint.save(tmp_path / "complex.pt", {"z": np.ones(1, np.complex128)})
    target = tmp_path / "complex.safetensors"
    assert "use .pt" in error_of(["convert", tmp_path / "complex.pt", target], capsys)
    assert not target.exists()


@pytest.mark.parametrize("arguments", [[], ["inspect"], ["convert", "a.pt"], ["open", "a.pt"]])
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: torchwise" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["inspect"], ["convert"]])
def test_help_says_what_it_does(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([*arguments, "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "usage: torchwise" in text
    assert ".safetensors" in text or "checkpoints" in text


def test_a_reader_that_leaves_is_no_error(tmp_path):
    checkpoint.save(tmp_path / "many.pt", {f"tensor{index}": np.ones(1) for index in range(20000)})
    process = subprocess.Popen(
        [*COMMAND, "inspect", str(tmp_path / "many.pt")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process, process.stdout, process.stderr:
        assert process.stdout.readline() == b"(the whole file): 20000 tensors\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_the_module_runs_without_torch_and_in_ascii(tmp_path):
    checkpoint.save(tmp_path / "a.pt", {"\u00e4": np.ones(1)})
    code = (
        "import sys; sys.modules['torch'] = None; from torchwise.cli import main; sys.exit(main())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "inspect", str(tmp_path / "a.pt")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert r"\xe4" in result.stdout


def test_the_entry_point_is_main():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"torchwise": "torchwise.cli:main"}
