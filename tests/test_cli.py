"""The command line, as a user runs it."""

import os
import signal
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

import torchwise
from torchwise import checkpoint, cli, inspection
from torchwise.checkpoint import files

DATA = Path(__file__).parent / "checkpoint" / "data"
COMMAND = [sys.executable, "-m", "torchwise"]


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
    assert rest[11:] == [
        "  id  name      shape   dtype    step  |sum|",
        "  0   0.weight  (1, 2)  float32  1     5.65685",
        "group 1: Adagrad, 1 parameter",
        "  lr = 0.01",
        "  the rest as in group 0",
        "  id  name    shape  dtype",
        "  1   0.bias  (1,)   float32",
        "epoch: 7",
    ]


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
        (np.frombuffer(b"\x81\x7f\x80\x3f", "<u2").view(ml_dtypes.bfloat16), "nan"),
        (np.array([np.finfo(np.float64).max, np.inf]), "inf"),
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


def inspected(path, capsys):
    assert cli.main(["inspect", str(path)]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("tensor", "norm"),
    [
        (torch.full((1, 1), 3.0).expand(2**40, 4), 3 * 2**21),
        (torch.arange(3.0).expand(2**50, 3), 5**0.5 * 2**25),
        (torch.tensor(2.0).expand(1, 2**58), 2**30),
        (torch.arange(12.0).reshape(3, 4).t()[1:, ::2], (1 + 4 + 9 + 81 + 100 + 121) ** 0.5),
        (torch.arange(100_001.0), np.linalg.norm(np.arange(100_001.0))),
        (torch.arange(9.0).as_strided((2**20, 5), (0, 1)), 30**0.5 * 2**10),
    ],
)
def test_views_of_any_size_have_a_norm(tensor, norm, tmp_path, capsys):
    torch.save({"a": tensor}, tmp_path / "a.pt")
    assert inspected(tmp_path / "a.pt", capsys)[-1].split()[-1] == f"{norm:.6g}"


def test_dimensions_that_overlap_have_no_norm(tmp_path, capsys):
    windows = torch.arange(99_999.0).as_strided((50_000, 50_000), (1, 1))
    torch.save({"a": windows}, tmp_path / "a.pt")
    row = "  a     (50000, 50000)  float32  -"
    assert inspected(tmp_path / "a.pt", capsys)[-1] == row


def wide_names():
    long = {f"{'x' * 200_000}": torch.ones(1)}
    return {**long, **{str(index): torch.ones(1) for index in range(2000)}}


def long_path():
    return {"x" * 100_000: {str(index): index for index in range(2000)}}


def doubled():
    value = [torch.ones(1)]
    for _ in range(20):
        value = [value, value]
    return value


def many_keys():
    ids = list(range(1500))
    return {"state": {i: {f"key{i}": i} for i in ids}, "param_groups": [{"params": ids, "lr": 1}]}


def one_group_often():
    group = {"params": list(range(2000)), "lr": 0.1}
    return {"state": {}, "param_groups": [group] * 2000}


def one_entry_often():
    entry = {f"key{index}": "x" * 1000 for index in range(1000)}
    return {"state": {0: entry}, "param_groups": [{"params": [0] * 20_000, "lr": 0.1}]}


def long_list():
    return {"losses": list(range(20_000)), "nested": [[list(range(9))] * 9] * 500}


@pytest.mark.parametrize(
    "make",
    [
        *(wide_names, long_path, doubled, many_keys, one_group_often, one_entry_often, long_list),
    ],
)
def test_what_is_printed_is_not_much_longer_than_the_file(make, tmp_path, capsys):
    path = tmp_path / "a.pt"
    torch.save(make(), path)
    lines = inspected(path, capsys)
    assert sum(map(len, lines)) < max(25 * path.stat().st_size, 10**6)
    assert max(map(len, lines)) < 1000


def test_what_stands_in_many_places_is_described_once(tmp_path, capsys):
    weights = {"w": torch.ones(2)}
    optimizer = torch.optim.SGD([torch.ones(1)], lr=0.5).state_dict()
    optimizer["param_groups"] *= 2
    torch.save({"a": weights, "b": {"c": weights}, "optimizer": optimizer}, tmp_path / "a.pt")
    lines = inspected(tmp_path / "a.pt", capsys)
    assert lines.count("a: 1 tensor") == 1
    assert "b.c: the same as a" in lines
    assert lines[-1] == "group 1: the same as group 0"


def test_the_output_has_an_end(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(inspection.text, "_MAX_CHARACTERS", 1000)
    torch.save({str(index): torch.ones(1) for index in range(1000)}, tmp_path / "a.pt")
    lines = inspected(tmp_path / "a.pt", capsys)
    assert lines[-1] == "... and more, left out after 1000 characters"
    assert 900 < sum(map(len, lines[:-1])) <= 1000


@pytest.mark.parametrize(
    "group",
    [
        {"params": 3},
        {"params": [[]]},
        {"params": [0], "param_names": None},
        {"params": [0], "param_names": [[torch.ones(3)]]},
        {"params": {"a": 1}},
        {"lr": 1},
    ],
)
def test_groups_that_are_none_are_other_values(group, tmp_path, capsys):
    torch.save({"state": {0: {}}, "param_groups": [group]}, tmp_path / "a.pt")
    assert inspected(tmp_path / "a.pt", capsys)


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
    assert "is not one of .pt, .pth, .ckpt, " in error_of(["convert", nested, "a.npz"], capsys)
    assert "No such file" in error_of(["convert", nested, tmp_path / "no" / "a.pt"], capsys)
    checkpoint.save(tmp_path / "complex.pt", {"z": np.ones(1, np.complex128)})
    target = tmp_path / "complex.safetensors"
    assert "use .pt" in error_of(["convert", tmp_path / "complex.pt", target], capsys)
    assert not target.exists()


def test_errors_name_the_file_that_the_user_named(nested, tmp_path, capsys, monkeypatch):
    target = tmp_path / "out.safetensors"
    checkpoint.save(tmp_path / "complex.pt", {"z": np.ones(1, np.complex128)})
    line = error_of(["convert", tmp_path / "complex.pt", target], capsys)
    assert line.startswith(f"torchwise: error: {target}: cannot save z")
    os.mkfifo(tmp_path / "pipe.pt")
    line = error_of(["convert", nested, tmp_path / "pipe.pt"], capsys)
    assert line == f"torchwise: error: {tmp_path / 'pipe.pt'}: is not a file, and is not replaced"

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    line = error_of(["convert", nested, target], capsys)
    assert line == f"torchwise: error: [Errno 28] No space left on device: '{target}'"


def test_a_lack_of_memory_is_one_line(tmp_path, capsys):
    torch.save({"a": torch.ones(1).expand(2**57)}, tmp_path / "a.pt")
    line = error_of(["convert", tmp_path / "a.pt", tmp_path / "b.pt"], capsys)
    assert line == f"torchwise: error: {tmp_path / 'a.pt'}: needs more memory than there is"
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


@pytest.fixture
def hangup_ends():
    """Under nohup, SIGHUP is ignored, also by what is tested here."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("hangup_ends")
def test_signals_leave_no_file_and_no_traceback(number, nested, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "out"
    folder.mkdir()
    found = []

    def write(file, *_):
        file.write(b"half")
        file.flush()
        found.extend(folder.iterdir())
        signal.raise_signal(number)

    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    monkeypatch.setitem(files._WRITERS, "torch", write)
    assert cli.main(["convert", str(nested), str(folder / "b.pt")]) == 128 + number
    assert len(found) == 1
    assert list(folder.iterdir()) == []
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"torchwise: stopped by {number.name}\n"
    after = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert after == handlers


def test_an_ignored_signal_stays_ignored(nested, tmp_path, monkeypatch):
    def write(file, *_):
        signal.raise_signal(signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setitem(files._WRITERS, "torch", write)
        assert cli.main(["convert", str(nested), str(tmp_path / "b.pt")]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_does_not_disturb_the_cleaning_up(nested, tmp_path, monkeypatch):
    remove = os.unlink

    def unlink(path):
        signal.raise_signal(signal.SIGTERM)
        remove(path)

    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(os, "unlink", unlink)
    monkeypatch.setitem(files._WRITERS, "torch", lambda *_: signal.raise_signal(signal.SIGINT))
    assert cli.main(["convert", str(nested), str(folder / "b.pt")]) == 128 + signal.SIGINT
    assert list(folder.iterdir()) == []


def test_it_runs_in_other_threads(nested, capsys):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(cli.main(["inspect", str(nested)])))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize("command", ["inspect", "convert"])
def test_a_file_may_be_mapped(command, nested, tmp_path, capsys, monkeypatch):
    seen = []
    load = checkpoint.load
    monkeypatch.setattr(
        checkpoint, "load", lambda path, **options: seen.append(options) or load(path, **options)
    )
    rest = [str(tmp_path / "b.pt")] if command == "convert" else []
    assert cli.main([command, str(nested), *rest]) == 0
    assert cli.main([command, "--mmap", str(nested), *rest]) == 0
    assert seen == [{"mmap": mmap, "records": True} for mmap in (False, True)]


def test_the_package_runs_as_a_module_and_has_a_version():
    result = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert result.stdout == f"torchwise {torchwise.__version__}\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_an_output_that_cannot_be_written_is_an_error(nested):
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*COMMAND, "inspect", str(nested)], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert result.returncode == 2
    message = b"torchwise: error: [Errno 28] No space left on device: 'standard output'\n"
    assert result.stderr == message


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
    assert project["project"]["scripts"] == {"torchwise": "torchwise.__main__:run"}
