"""The benchmarks run, on shapes so small that their figures mean nothing."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import host
import page
import plan

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
OURS = {"torchwise", "torchwise update", "torchwise.optim"}
TORCH = {"torch", "torch foreach", "torch fused"}
PEERS = OURS | {"optax"} | TORCH
# One per algorithm; and those peers that do not have it.
OPTIMIZERS = {
    "sgd dampening decay": {"optax"},
    "adagrad decay": set(),
    "rmsprop centered momentum": {"torch fused"},
}
ENVIRONMENT = {
    "date",
    "backend",
    "device",
    "processor",
    "cores",
    "load",
    "python",
    "versions",
    "flags",
}


def run(script, out, *arguments, figure=True):
    path = str(ROOT / "benchmarks" / script)
    command = [sys.executable, path, "--quick", "--out", str(out), *arguments]
    process = subprocess.run(
        command,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    stem = out / script.removesuffix(".py")
    if figure:
        assert stem.with_suffix(".png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    file = stem.with_suffix(".json")
    return json.loads(file.read_text()) if file.exists() else None, process.stdout


def check_row(row, peers):
    assert set(row["peers"]) == peers
    assert row["arrays"] > 0
    assert row["elements"] > 0
    for found in row["peers"].values():
        times = found["milliseconds"]
        assert 0 < times["lower"] <= times["median"] <= times["upper"]
        assert found["peak_bytes"] is None or found["peak_bytes"] >= 0
    for name in peers - TORCH:
        assert row["peers"][name]["compile_seconds"] > 0
    for name in peers - TORCH - {"torchwise.optim"}:
        assert row["peers"][name]["temporary_bytes"] >= 0
    assert set(row["ratios"]) == OURS
    for ratios in row["ratios"].values():
        assert set(ratios) == peers - OURS
        assert all(ratio > 0 for ratio in ratios.values())


@pytest.fixture(scope="module")
def step(tmp_path_factory):
    workloads = ["--shapes", "4 of 8 x 8", "train MLP"]
    optimizers = ["--optimizers", *OPTIMIZERS]
    return run("step.py", tmp_path_factory.mktemp("step"), *workloads, *optimizers)


def test_step_writes_every_row(step):
    result, _ = step
    assert set(result["environment"]) == ENVIRONMENT
    found = [(row["workload"], row["optimizer"]) for row in result["rows"]]
    assert found == [
        (workload, optimizer)
        for workload in ("4 of 8 x 8", "train MLP")
        for optimizer in OPTIMIZERS
    ]
    for row in result["rows"]:
        check_row(row, PEERS - OPTIMIZERS[row["optimizer"]])
        is_training = row["workload"].startswith("train")
        assert (row["limit_milliseconds"] is None) == is_training


def test_step_prints_the_table(step):
    _, output = step
    for words in ("4 of 8 x 8 (4 arrays, 256 elements), adagrad decay", "x torchwise", "x limit"):
        assert words in output


def test_a_run_that_goes_on_measures_what_is_missing(step, tmp_path):
    result, _ = step
    kept = {**result, "rows": result["rows"][:1]}
    (tmp_path / "step.json").write_text(json.dumps(kept))
    chosen = ["--shapes", "4 of 8 x 8", "--optimizers", *list(OPTIMIZERS)[:2], "--continue"]
    again, _ = run("step.py", tmp_path, *chosen)
    assert again["rows"][0] == kept["rows"][0]
    assert [row["optimizer"] for row in again["rows"]] == list(OPTIMIZERS)[:2]
    assert len(again["runs"]) == 2


def test_the_page_begins_with_a_verdict(step, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    (results / "step.json").write_text(json.dumps(step[0]))
    document = tmp_path / "performance.md"
    page.main(["--results", str(results), "--page", str(document)])
    text = document.read_text()
    headings = re.findall(r"^##+ ([\w' -]+)", text, re.MULTILINE)
    assert headings[:3] == ["In short", "Against the project's bars", "How it is measured"]
    assert "| optax / torchwise: everywhere | ≥ 1.00 |" in text
    for name in OPTIMIZERS:
        assert f"### {name}\n" in text


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("script", "rows"), [("others.py", ["sparse adam", "lbfgs"]), ("flax_step.py", ["adamw"])]
)
def test_the_other_scripts(tmp_path, script, rows):
    run(script, tmp_path, "--name", "found", figure=False)
    found = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [row["optimizer"] for row in found] == rows
    for row in found:
        assert all(ratio > 0 for ratio in row["ratios"]["torchwise"].values())


@pytest.mark.exhaustive
def test_scaling(tmp_path):
    result, output = run("scaling.py", tmp_path)
    assert set(result["environment"]) == ENVIRONMENT
    sizes = [(row["axis"], row["arrays"], row["elements"]) for row in result["rows"]]
    assert sizes == [
        ("arrays", 2, 512),
        ("arrays", 4, 1024),
        ("groups", 2, 512),
        ("groups", 2, 512),
        ("elements", 1, 10),
        ("elements", 1, 100),
    ]
    for row in result["rows"]:
        if row["axis"] != "groups":
            check_row(row, PEERS)
    grouped = [row for row in result["rows"] if row["axis"] == "groups"]
    assert [row["groups"] for row in grouped] == [1, 2]
    for row in grouped:
        assert set(row["peers"]) == {"torchwise.optim", "one group"} | TORCH
        assert set(row["ratios"]) == {"torchwise.optim"}
    assert "by elements" in output


def test_the_document_holds_the_plan(step):
    document = (ROOT / "docs" / "many-devices.md").read_text()
    assert plan.text() in document
    measured = plan.measured(step[0])
    for name in OPTIMIZERS:
        assert f"| {name} |" in measured


def test_the_plan_by_hand():
    adagrad = next(case for case in plan.CASES if case.name == "adagrad")
    h100 = plan.DEVICES[0]
    assert plan.bytes_held(adagrad, 10**9) == 12 * 10**9
    assert plan.devices_needed(adagrad, 10**12, h100) == 300
    # 20 bytes for each parameter through 300 times 3.35 TB/s
    assert plan.seconds(adagrad, 10**12, h100, 300) == pytest.approx(20e12 / (300 * 3.35e12))


def test_host_prints_both_times(capsys):
    host.main(["--quick"])
    _, *lines = capsys.readouterr().out.splitlines()
    line = r" +{} arrays: lr fixed \d+ us, lr changed \d+ us, ratio \d+\.\d\d"
    assert len(lines) == 2
    assert re.fullmatch(line.format(1), lines[0])
    assert re.fullmatch(line.format(100), lines[1])
