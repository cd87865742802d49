"""Ctrl-C and SIGTERM: no file, no traceback, whatever is going on."""

import os
import pty
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import torchwise
from torchwise import checkpoint, signals

SOURCE = Path(torchwise.__file__).parent.parent
COMMAND = [sys.executable, "-m", "torchwise"]
ENDED = [signal.SIGINT, signal.SIGTERM]


def run(arguments, before, **options):
    path = os.pathsep.join([str(before), str(SOURCE)])
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
        **options,
    )


@pytest.mark.parametrize("number", ENDED)
@pytest.mark.parametrize("module", ["jax", "argparse"])
def test_a_signal_while_modules_are_imported(module, number, tmp_path):
    """A module of this name sends the signal, as if it came while the real one is imported."""
    optimizer = torch.optim.SGD([torch.ones(2, requires_grad=True)]).state_dict()
    torch.save(optimizer, tmp_path / "a.pt")
    (tmp_path / module).mkdir()
    code = f"import os, time; os.kill(os.getpid(), {int(number)}); time.sleep(20)"
    (tmp_path / module / "__init__.py").write_text(code)
    result = run(["inspect", tmp_path / "a.pt"], tmp_path)
    assert result.returncode == 128 + number
    assert result.stderr == f"torchwise: stopped by {number.name}\n"


def test_an_exception_that_python_forgets_comes_again():
    """In a destructor, for instance, where Python prints it and goes on."""

    class Forgetting:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    before = signal.getsignal(signal.SIGTERM)
    done = []

    def command():
        with signals.raising_at_signals():
            one = Forgetting()
            del one
            done.append(1)

    try:
        with pytest.raises(signals.Stopped) as caught:
            command()
    finally:
        sys.unraisablehook = hook
    assert (caught.value.number, done) == (signal.SIGTERM, [1])
    assert signal.getsignal(signal.SIGTERM) is before


def interrupted(arguments, number, wait, folder):
    """Run a command, send a signal some seconds after Python's own start; return what it did.

    While Python itself starts, it prints a traceback whatever we do. So a file tells when it has
    imported the modules of its own that it starts a package with.
    """
    started = folder / "started"
    started.unlink(missing_ok=True)
    code = f"import runpy, signal; open({str(started)!r}, 'w').close()"
    (folder / "sitecustomize.py").write_text(code)
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(SOURCE)])},
    )
    while not started.exists():
        time.sleep(0.001)
    time.sleep(wait)
    process.send_signal(number)
    said = process.communicate()[1]
    return process.returncode, said


@pytest.mark.exhaustive
def test_signals_at_any_time(tmp_path):
    """150 commands, each interrupted at another moment; most of them before they are done."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    weights = torch.ones(1000, 4000, requires_grad=True)
    optimizer = torch.optim.AdamW([weights])
    weights.sum().backward()
    optimizer.step()
    file, folder = tmp_path / "a.pt", tmp_path / "out"
    torch.save({"w": weights.detach(), "optimizer": optimizer.state_dict()}, file)
    folder.mkdir()
    target = folder / "b.safetensors"
    commands = [["inspect", file], ["diff", file, file], ["convert", file, target]]
    codes = []
    for _ in range(150):
        number = moments.choice(ENDED)
        wait = moments.choice([0.02, 1.5]) * moments.random()
        code, said = interrupted(moments.choice(commands), number, wait, tmp_path)
        silent = (-number, 0)  # the default of the system, at the very beginning and end
        if code == -signal.SIGINT and said:  # Python was looking for the package
            assert said.endswith("KeyboardInterrupt\n")
            assert f'File "{SOURCE}' not in said
            continue
        assert said == ("" if code in silent else f"torchwise: stopped by {number.name}\n")
        assert code in (*silent, 128 + number)
        assert {path.name for path in folder.iterdir()} <= {target.name}
        codes.append(code)
    assert sum(code != 0 for code in codes) > 30


def on_a_terminal(arguments, environment):
    """Run a command whose standard error is a terminal; return what it wrote there."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=follower, env={**os.environ, **environment}
    )
    os.close(follower)
    written = b""
    try:
        while piece := os.read(leader, 4096):
            written += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(leader)
    assert process.wait() == 0
    return written.decode()


def test_progress_is_shown_on_terminals_after_a_second(tmp_path):
    checkpoint.save(tmp_path / "a.pt", {"w": np.ones(10_000_000, np.float32)})
    code = (
        "import sys, time; from torchwise.cli import main, progress; "
        "progress._SILENT, progress._PAUSE = float(sys.argv.pop()), 0; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "convert", str(tmp_path / "a.pt")]
    command.append(str(tmp_path / "b.pt"))
    environment = {"PYTHONPATH": str(SOURCE), "COLUMNS": "80"}
    text = on_a_terminal([*command, "0"], environment)
    drawn = [line for line in text.split("\r\x1b[K") if line]
    assert all(line.endswith("%") for line in drawn)
    assert max(map(len, drawn)) < 80
    assert any("a.pt" in line for line in drawn)
    assert any("b.pt" in line for line in drawn)
    assert "42%" in text  # of 40 MB: the first of three pieces
    assert text.endswith("\r\x1b[K")
    assert on_a_terminal([*command, "100"], environment) == ""
    result = subprocess.run(
        [*command, "0"], capture_output=True, check=True, env={**os.environ, **environment}
    )
    assert result.stderr == b""
