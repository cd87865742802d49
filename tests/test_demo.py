"""The demo, run in this process with few epochs."""

import itertools
import struct
import sys

import numpy as np
import pytest

from torchwise.demo import __main__ as demo

COLUMNS = ["optimizer", "library", "test accuracy", "ms per step"]
COMPARED_COLUMNS = [*COLUMNS, "speed ratio", "last diff.", "max diff."]
EPOCHS = "8"  # as many as 95 % take


def png_size(path):
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", header[16:24])


def parse_table(output):
    lines = list(itertools.takewhile(str.strip, output.splitlines()))
    assert len({len(line) for line in lines}) == 1, "the lines of the table are not aligned"
    header, *rows = [line.replace("  ", "\t").split("\t") for line in lines]
    columns = [cell.strip() for cell in header if cell.strip()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    return columns, [dict(zip(columns, row, strict=True)) for row in cells]


def percent(cell):
    return float(cell.removesuffix("%"))


def test_trains_both_optimizers(tmp_path, capsys):
    figure = tmp_path / "curves.png"
    demo.main(["--epochs", EPOCHS, "--figure", str(figure)])
    captured = capsys.readouterr()
    columns, rows = parse_table(captured.out)
    assert columns == COLUMNS
    assert [(row["optimizer"], row["library"]) for row in rows] == [
        ("sgd", "torchwise"),
        ("adagrad", "torchwise"),
    ]
    assert all(percent(row["test accuracy"]) > 95 for row in rows)
    assert all(0 < float(row["ms per step"]) < 1000 for row in rows)
    assert png_size(figure) == (840, 600)
    assert str(figure) in captured.out
    assert "100%" in captured.err


def test_compares_with_torch(tmp_path, capsys):
    pytest.importorskip("torch")
    figure = tmp_path / "curves.png"
    demo.main(["--epochs", EPOCHS, "--figure", str(figure), "--compare-torch"])
    output = capsys.readouterr().out
    columns, rows = parse_table(output)
    assert columns == COMPARED_COLUMNS
    assert [(row["optimizer"], row["library"]) for row in rows] == [
        ("sgd", "torchwise"),
        ("sgd", "torch"),
        ("adagrad", "torchwise"),
        ("adagrad", "torch"),
    ]
    assert all(percent(row["test accuracy"]) > 95 for row in rows)
    for ours, theirs in (rows[:2], rows[2:]):
        # one of the 360 test images may be seen otherwise
        assert abs(percent(ours["test accuracy"]) - percent(theirs["test accuracy"])) < 0.4
        # 1e-5 is far below a learning rate of 0.05 to 0.1: no step went another way
        assert float(ours["last diff."]) <= float(ours["max diff."]) < 1e-5
        assert theirs["speed ratio"] == "1.00"
        assert (theirs["last diff."], theirs["max diff."]) == ("-", "-")
    assert "sgd: fed with torch's gradients, torchwise equals torch to the bit" in output
    assert png_size(figure) == (1680, 600)


def test_seed_decides_weights_and_batches():
    from torchwise.demo import training

    first, again, other = (training.initialize(seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)

    train = training.load().train
    batches = [next(training.epochs_of_batches(train, 1, seed))[0] for seed in (1, 1, 2)]
    assert np.array_equal(batches[0].images, batches[1].images)
    assert not np.array_equal(batches[0].labels, batches[2].labels)


def test_split_is_a_partition_of_the_digits():
    from torchwise.demo import training

    digits = training.load()
    assert digits.train.images.shape == (1437, 64)
    assert digits.test.images.shape == (360, 64)
    assert digits.train.images.dtype == np.float32
    assert (digits.train.images.min(), digits.train.images.max()) == (0, 1)
    assert set(digits.test.labels) == set(range(10))


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("sklearn", [], ["scikit-learn", 'pip install "torchwise[demo]"']),
        ("matplotlib", [], ["matplotlib", 'pip install "torchwise[demo]"']),
        ("tqdm", [], ["tqdm", 'pip install "torchwise[demo]"']),
        ("torch", ["--compare-torch"], ["--compare-torch", "pip install torch"]),
    ],
)
def test_missing_package(module, arguments, words, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit) as stopped:
        demo.main(arguments)
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert all(word in captured.err for word in words)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--figure", "missing/digits.png"], "argument --figure: no such folder: 'missing'"),
        (["--figure", "digits.pdf"], "argument --figure: must end in .png: 'digits.pdf'"),
        (["--figure", "folder.png"], "argument --figure: not writable: 'folder.png'"),
        (["--epochs", "0"], "argument --epochs: must be a positive integer, not '0'"),
        (["--epochs", "many"], "argument --epochs: must be a positive integer, not 'many'"),
        (["--seed", "-1"], "argument --seed: "),
        (["--unknown"], "unrecognized arguments: --unknown"),
    ],
)
def test_wrong_argument(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SystemExit) as stopped:
        demo.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as stopped:
        demo.main(["--help"])
    assert stopped.value.code == 0
    output = capsys.readouterr().out
    for option in ("--epochs", "--seed", "--figure", "--stateful", "--compare-torch"):
        assert option in output


def test_stateful_reaches_the_same_parameters(tmp_path, capsys):
    demo.main(["--epochs", "3", "--stateful", "--figure", str(tmp_path / "digits.png")])
    output = capsys.readouterr().out
    assert output.count("torchwise.optim ") >= 2
    for name in ("sgd", "adagrad"):
        assert f"{name}: torchwise.optim reaches the parameters of torchwise to the bit" in output
