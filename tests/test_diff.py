"""`torchwise diff`: what it finds, how far apart it says things are, and its exit code."""

import argparse
import json
import math
import tracemalloc
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch

from torchwise import checkpoint, cli
from torchwise.checkpoint.dtypes import ELEMENT_TYPES
from torchwise.comparison import Limits, compare
from torchwise.comparison.distance import BINS, distance
from torchwise.comparison.leaves import leaves

ALL = {row.numpy.name: row.numpy for row in ELEMENT_TYPES}
FLOATS = [name for name in ALL if "float" in name]
NARROW = [name for name in FLOATS if ALL[name].itemsize <= 2]
EXACT = Limits()


def every_number(dtype):
    """All finite numbers of a narrow type, and their ranks by value; zeros have one rank."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    numbers = np.arange(2 ** (8 * dtype.itemsize), dtype=unsigned).view(dtype)
    with np.errstate(invalid="ignore"):  # of signaling NaNs
        numbers = numbers[np.isfinite(numbers.astype(np.float64))]
    return numbers, np.unique(numbers.astype(np.float64), return_inverse=True)[1]


def bin_of(steps):
    return int(steps).bit_length()


@pytest.mark.parametrize("name", NARROW)
def test_ulps_are_steps_from_number_to_number(name):
    """Counted in the list of all numbers of the type, which has nothing to do with bits."""
    numbers, ranks = every_number(ALL[name])
    random = np.random.default_rng(0)
    for _ in range(20):
        one, other = random.integers(len(numbers), size=(2, 5))
        found = distance(numbers[one], numbers[other], EXACT)
        steps = abs(ranks[one] - ranks[other])
        assert found.ulps == steps.max()
        assert found.bins == np.bincount([*map(bin_of, steps)], minlength=BINS).tolist()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_ulps_of_wide_types(kind):
    start = kind(-1e-45 if kind is np.float32 else -1e-323)
    values = [start]
    for _ in range(9):
        values.append(np.nextafter(values[-1], kind(1)))
    values = np.array(values)
    for i in range(10):
        found = distance(np.full(10, values[i]), values, EXACT)
        # Of the two zeros there is one step less in the list than between signs.
        assert found.ulps == max(i, 9 - i)
    top = np.finfo(kind).max
    bits = {np.float32: 2**32 - 2**24, np.float64: 2**64 - 2**53}[kind]
    found = distance(np.array([top]), np.array([-top]), EXACT)
    assert (found.ulps, found.relative) == (bits - 2, 2.0)


@pytest.mark.parametrize("name", ["float32", "float64", "float16", "bfloat16"])
def test_relative_and_absolute_distances_are_those_of_the_numbers(name):
    random = np.random.default_rng(1)
    one = random.normal(size=50).astype(ALL[name])
    other = (one.astype(np.float64) * (1 + 1e-3 * random.normal(size=50))).astype(ALL[name])
    found = distance(one, other, EXACT)
    pairs = [(Fraction(float(a)), Fraction(float(b))) for a, b in zip(one, other)]
    relative = max(abs(a - b) / max(abs(a), abs(b)) for a, b in pairs)
    assert found.relative == pytest.approx(float(relative), rel=1e-12)
    assert found.absolute == pytest.approx(float(max(abs(a - b) for a, b in pairs)), rel=1e-12)
    assert found.unequal == found.beyond == sum(a != b for a, b in pairs)


@pytest.mark.parametrize("name", [name for name in FLOATS if "e8m0" not in name])
def test_what_is_not_finite(name):
    dtype = ALL[name]
    nan = np.array([np.nan], dtype)
    assert distance(nan, nan.copy(), EXACT).unequal == 0
    for value in (0.0, 1.0):
        found = distance(nan, np.array([value], dtype), Limits(ulps=2**70, rtol=1e9, atol=1e9))
        assert (found.beyond, found.ulps, found.relative) == (1, math.inf, math.inf)
        assert found.bins[-1] == 1
    infinity = np.array([np.inf], dtype)
    if np.isinf(infinity.astype(float))[0]:
        assert distance(infinity, infinity.copy(), EXACT).unequal == 0
        for other in (-infinity, np.array([np.finfo(np.float16).max], dtype)):
            if np.isfinite(other.astype(float))[0] or other.astype(float)[0] < 0:
                assert distance(infinity, other, Limits(ulps=2**70, rtol=1e9)).ulps == math.inf
    zero = np.array([0.0], dtype)
    if np.signbit((-zero).astype(float))[0] and "fnuz" not in name:
        found = distance(zero, -zero, EXACT)
        assert (found.unequal, found.zeros, found.ulps) == (0, 1, 0)


def test_nans_of_other_bits_are_equal():
    one = np.array([0x7FC00000, 0x7F800001], np.uint32).view(np.float32)
    assert distance(one, one[::-1], EXACT).unequal == 0
    half = np.array([0x7FC0, 0x7F81], np.uint16).view(ml_dtypes.bfloat16)
    assert distance(half, half[::-1], EXACT).unequal == 0
    assert distance(half, one, EXACT).unequal == 0


@pytest.mark.parametrize("kind", ["int64", "uint64", "int8", "uint8", "int32"])
def test_integers_are_equal_or_not(kind):
    info = np.iinfo(kind)
    one, other = np.array([info.max, 5], kind), np.array([info.max - 1, 5], kind)
    found = distance(one, other, Limits(ulps=10, rtol=1.0, atol=10.0))
    assert (found.unequal, found.beyond, found.ulps, found.absolute) == (1, 1, None, 1.0)
    assert found.place == (0,)
    far = distance(np.array([info.min], kind), np.array([info.max], kind), EXACT)
    assert far.absolute == float(info.max - info.min)


def test_booleans_and_complex_numbers():
    found = distance(np.array([True, False]), np.array([True, True]), Limits(atol=5.0))
    assert (found.beyond, found.absolute, found.place) == (1, 1.0, (1,))
    one = np.array([[1 + 2j, 3j]], np.complex64)
    other = one.copy()
    other.imag[0, 1] = np.nextafter(np.float32(3), np.float32(4))
    found = distance(one, other, EXACT)
    assert (found.unequal, found.ulps, found.place) == (1, 1, (0, 1))
    assert distance(one.T, other.T, EXACT).place == (1, 0)
    assert distance(np.array(np.nan + 1j), np.array(np.nan + 1j), EXACT).unequal == 0


def test_an_element_is_within_one_of_the_limits():
    one = np.array([1.0, 1e-30, 100.0], np.float32)
    other = np.array([1.0000002, 2e-30, 101.0], np.float32)
    assert distance(one, other, EXACT).beyond == 3
    assert distance(one, other, Limits(ulps=2)).beyond == 2
    assert distance(one, other, Limits(ulps=2, rtol=0.02)).beyond == 1
    assert distance(one, other, Limits(ulps=2, rtol=0.02, atol=1e-29)).beyond == 0
    assert distance(one, other, Limits(ulps=1, rtol=1e-8)).beyond == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.arange(12.0).reshape(3, 4), np.arange(12.0).reshape(4, 3).T),
        (np.arange(200_000.0), np.arange(200_000.0)[::-1]),
        (np.broadcast_to(np.arange(3.0), (4, 3)), np.broadcast_to(2.0, (4, 3))),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (np.array(1.0), np.array(2.0)),
    ],
)
def test_views_are_compared_where_their_elements_are(one, other):
    found = distance(one, other, EXACT)
    apart = np.abs(one - other)
    assert found.unequal == (apart != 0).sum()
    assert found.absolute == apart.max(initial=0)
    assert sum(found.bins) == one.size
    if found.place is not None:
        steps = np.abs(one.view(np.int64) - other.view(np.int64)) if one.ndim == 1 else None
        assert steps is None or steps[found.place] == steps.max()


def test_arrays_larger_than_any_memory():
    one = np.broadcast_to(np.arange(3.0, dtype=np.float32), (2**50, 3))
    other = np.broadcast_to(np.array([0, 1, 3], np.float32), (2**50, 3))
    found = distance(one, other, EXACT)
    assert (found.unequal, found.place) == (2**50, (0, 2))
    assert sum(found.bins) == 3 * 2**50
    windows = np.lib.stride_tricks.as_strided(np.arange(9e4), (50_000, 40_000), (8, 8))
    found = distance(windows, windows, EXACT)
    assert (found.is_known, found.beyond) == (False, windows.size)


def test_a_comparison_takes_little_memory():
    one = np.random.default_rng(2).normal(size=4_000_000).astype(np.float32)
    other = one * np.float32(1.000001)
    tracemalloc.start()
    distance(one, other, EXACT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < one.nbytes, peak


@pytest.fixture
def both(tmp_path):
    """Two checkpoints that differ in every way."""
    weights = torch.linspace(-1, 1, 12).reshape(3, 4)
    first = {
        "model": {"same": torch.ones(2), "close": weights, "far": weights.bfloat16()},
        "gone": torch.ones(2),
        "shape": torch.ones(2, 3),
        "type": weights,
        "kind": 3,
        "epoch": 3,
        "lr": 0.1,
        "text": "a",
        "zero": torch.tensor([0.0]),
    }
    far = weights.bfloat16()
    far[1, 2] = 5
    second = {
        "model": {"same": torch.ones(2), "close": weights * (1 + 2e-7), "far": far},
        "new": [1, None],
        "shape": torch.ones(3, 2),
        "type": weights.bfloat16(),
        "kind": "3",
        "epoch": 4,
        "lr": 0.1 * (1 + 1e-15),
        "text": "a",
        "zero": torch.tensor([-0.0]),
    }
    torch.save(first, tmp_path / "a.pt")
    checkpoint.save(tmp_path / "b.safetensors", second)
    return tmp_path / "a.pt", tmp_path / "b.safetensors"


def run(capsys, *arguments):
    code = cli.main(["diff", *map(str, arguments)])
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, captured.out


def test_everything_that_differs_is_said(both, capsys):
    code, text = run(capsys, *both)
    assert code == 1
    assert text.splitlines() == [
        "1 value only in the first",
        "  name  value",
        "  gone  (2,) float32",
        "2 values only in the second",
        "  name   value",
        "  new.0  1 (int)",
        "  new.1  None",
        "1 tensor of another shape",
        "  name   first           second",
        "  shape  (2, 3) float32  (3, 2) float32",
        "2 values of another type",
        "  name  first           second",
        "  type  (3, 4) float32  (3, 4) bfloat16",
        "  kind  3 (int)         '3'",
        "2 values that are not equal",
        "  name   first        second",
        "  epoch  3 (int)      4 (int)",
        "  lr     0.1 (float)  0.10000000000000012 (float)",
        "2 tensors with other elements, the furthest first",
        "  name         shape   dtype     ulps  relative  absolute  elements  at",
        "  model.far    (3, 4)  bfloat16  742   0.982     4.91      1 of 12   (1, 2)",
        "  model.close  (3, 4)  float32   4     2.81e-07  2.38e-07  12 of 12  (0, 3)",
        "1 zero of another sign, which count as equal",
        "2 tensors equal, 0 not equal but within the limits, 2 beyond; 1 other value equal",
    ]


def test_the_code_says_whether_all_is_within_the_limits(both, tmp_path, capsys):
    first, second = both
    assert run(capsys, first, first)[0] == 0
    value = checkpoint.load(first)
    value["model"]["close"] = value["model"]["close"] * np.float32(1 + 2e-7)
    value["lr"] *= 1 + 3e-16
    checkpoint.save(tmp_path / "c.pt", value)
    assert run(capsys, first, tmp_path / "c.pt")[0] == 1
    code, text = run(capsys, first, tmp_path / "c.pt", "--ulps", 5)
    assert (code, "within the limits" in text) == (0, True)
    assert run(capsys, first, tmp_path / "c.pt", "--rtol", 1e-6)[0] == 0
    assert run(capsys, first, tmp_path / "c.pt", "--rtol", 1e-8, "--ulps", 2)[0] == 1
    assert cli.main(["diff", str(first), str(tmp_path / "none.pt")]) == 2
    assert cli.main(["diff", str(first), str(second), "--ulps", "-1"]) == 2
    assert cli.main(["diff", str(first), str(second), "--rtol", "nan"]) == 2
    assert cli.main(["diff", str(first), str(second), "--rows", "-1"]) == 2
    assert cli.main(["diff", str(first), str(second), "--under", "nothing"]) == 2
    assert "a.pt: has nothing under 'nothing'" in capsys.readouterr().err


def test_parts_of_files_and_types(both, tmp_path, capsys):
    first, second = both
    checkpoint.save(tmp_path / "model.safetensors", checkpoint.load(second)["model"])
    options = ["--under", "model", "--rtol", 10]
    assert run(capsys, first, tmp_path / "model.safetensors", *options)[0] == 0
    options = ["--under", "model.far", "--other-under", "model.far"]
    assert "1 beyond; 0 other" in run(capsys, first, second, *options)[1]
    options = ["--under", "type", "--other-under", "type"]
    assert run(capsys, first, second, *options)[0] == 1
    assert run(capsys, first, second, *options, "--ignore-types")[0] == 0


def test_types_that_are_ignored_are_compared_by_value():
    limits = Limits(ignore_types=True)

    def differs(one, other):
        return not compare({"x": np.array(one)}, {"x": np.array(other)}, limits).is_within

    assert not differs(np.float16(0.5), ml_dtypes.bfloat16(0.5))
    assert differs(np.float16(0.1), ml_dtypes.bfloat16(0.1))
    assert not differs(np.float32(0.1), ml_dtypes.bfloat16(0.1))  # rounded to the coarser type
    assert differs(np.float32(0.1), np.float16(0.2))
    assert not differs(np.complex64(1j), np.complex128(1j))
    assert not differs(np.int64(3), np.uint8(3))
    assert differs(np.int64(2**63 - 1), np.uint64(2**63))
    assert differs(np.int64(1), np.float32(1))  # never by value: neither type holds the other's
    assert differs(np.bool_(True), np.int8(1))


def test_the_report_for_programs(both, capsys):
    code, text = run(capsys, *both, "--json")
    found = json.loads(text)
    assert (code, found["within"], found["format"]) == (1, False, 1)
    assert [one["name"] for one in found["only_in_second"]] == ["new.0", "new.1"]
    far, close = found["tensors"]
    assert (far["name"], far["at"], far["unequal"]) == ("model.far", [1, 2], 1)
    assert (close["ulps"], close["beyond"], close["elements"]) == (4, 12, 12)
    assert sum(one["elements"] for one in found["histogram"]) == 12 + 12 + 12 + 2 + 1


def test_the_histogram_is_for_terminals(both, capsys, monkeypatch):
    assert "logarithmic" not in run(capsys, *both)[1]
    text = run(capsys, *both, "--histogram")[1]
    rows = [line.split() for line in text.splitlines() if "#" in line]
    assert rows[0][0] == "0"
    assert {row[-1] for row in rows} >= {"1"}
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert "logarithmic" in run(capsys, *both)[1]


def test_long_tables_are_cut(tmp_path, capsys):
    checkpoint.save(tmp_path / "a.pt", {f"t{i}": np.ones(1) for i in range(50)})
    checkpoint.save(tmp_path / "b.pt", {f"t{i}": np.full(1, 2.0 + i) for i in range(50)})
    _, text = run(capsys, tmp_path / "a.pt", tmp_path / "b.pt", "--rows", 3)
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["t49", "t48", "t47"]
    assert lines[5] == "  and 47 more (--rows 50 shows them)"


def test_names_are_paths_in_any_container():
    assert leaves({"a": {"b": 1, 0: [2, {}]}}) == {"a.b": 1, "a.0.0": 2, "a.0.1": {}}
    assert leaves({"a.b": 1, "a": {"b": 2}}) == {"a.b": 1, "a.b at ('a', 'b')": 2}
    assert leaves(3) == {"": 3}
    assert leaves({"losses": [0.5] * 30, "few": (1, 2)}) == {
        "losses": [0.5] * 30,
        "few.0": 1,
        "few.1": 2,
    }


def test_long_lists_of_numbers_are_one_value():
    one = {"losses": [0.1 * i for i in range(30)]}
    for change, within in ((1.0, True), (1 + 1e-15, True), (1 + 1e-9, False)):
        other = {"losses": (*one["losses"][:-1], one["losses"][-1] * change)}
        assert compare(one, other, Limits(rtol=1e-12)).is_within == within
    assert not compare(one, {"losses": one["losses"][1:]}, Limits(atol=9.0)).is_within
    assert not compare({"a": [1] * 30}, {"a": [1.0] * 30}, Limits(atol=9.0)).is_within


def test_too_many_values_are_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torchwise.comparison.leaves.MAX_LEAVES", 1000)
    value = [torch.ones(1)]
    for _ in range(20):
        value = [value, value]
    torch.save({"a": value, "b": 1}, tmp_path / "a.pt")
    assert cli.main(["diff", str(tmp_path / "a.pt"), str(tmp_path / "a.pt")]) == 2
    line = capsys.readouterr().err
    assert "a.pt: has more than 1000 values to compare" in line


def test_bins_have_names_for_every_distance():
    one = np.array([0.0, 1.0, np.inf])
    found = distance(one, np.array([5e-324, -1.0, 0.0]), EXACT)
    assert len(found.bins) == BINS
    assert [index for index, count in enumerate(found.bins) if count] == [1, 63, 65]


def test_records_are_compared_by_what_is_inside(tmp_path, capsys):
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    whole, weights = tmp_path / "whole.pt", tmp_path / "weights.pt"
    torch.save(
        {"net": net, "args": argparse.Namespace(lr=0.1), "at": torch.eye(2).to_sparse()}, whole
    )
    torch.save({"net": net.state_dict(), "args": argparse.Namespace(lr=0.2)}, weights)
    assert run(capsys, whole, weights, "--under", "net", "--other-under", "net")[0] == 0
    assert run(capsys, whole, whole)[0] == 0
    code, text = run(capsys, whole, weights)
    assert code == 1
    assert "args.lr" in text
    assert "at.indices" in text
    assert "net." not in text


def test_a_record_may_contain_itself(tmp_path, capsys):
    loop = argparse.Namespace()
    loop.own = loop
    path = tmp_path / "loop.pt"
    torch.save(loop, path)
    assert run(capsys, path, path)[0] == 0
    assert leaves(checkpoint.load(path, records=True))["own"] == "(a record around it)"
