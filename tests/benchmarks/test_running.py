"""How runs go on, measure again and are judged: pure functions, nothing is measured."""

import pytest

import bars
import growth
import running
import steadiness
import verdict
from findings import Cell
from running import Point

HERE = {"versions": {"jax": "1"}, "device": "cpu", "cores": 2}


def point(workload):
    return Point({"workload": workload, "optimizer": "sgd"}, dict, 3, None)


def row(workload, **more):
    return {"workload": workload, "optimizer": "sgd", **more}


def test_a_run_goes_on_with_the_points_that_have_no_row():
    points = [point("a"), point("b"), point("c")]
    assert running.missing(points, [row("b", load=0.1)]) == [points[0], points[2]]
    other = {**row("b"), "optimizer": "adam"}
    assert running.missing(points, [other]) == points


def test_rows_are_in_the_order_of_the_points():
    rows = [row("c"), row("elsewhere"), row("a")]
    assert running.ordered(rows, [point("a"), point("b"), point("c")]) == [
        row("elsewhere"),
        row("a"),
        row("c"),
    ]


def test_rows_and_runs_are_taken_over():
    new = {"environment": HERE, "runs": [], "rows": [], "left_out": []}
    old = {"environment": HERE, "runs": [{"load": 0.1}], "rows": [row("a")], "left_out": ["x"]}
    assert running.continued(new, old) == {**old, "left_out": []}


@pytest.mark.parametrize("key", HERE)
def test_rows_of_another_machine_are_refused(key):
    new = {"environment": HERE, "runs": [], "rows": [], "left_out": []}
    old = {"environment": {**HERE, key: "other"}, "runs": [], "rows": [row("a")]}
    with pytest.raises(SystemExit, match=f"with other {key}, other; .* without --continue"):
        running.continued(new, old)


@pytest.mark.parametrize(
    ("speed", "before", "is_drifted"),
    [(1.0, [], False), (1.14, [1, 1, 9], False), (1.16, [1, 1, 9], True), (0.84, [1], True)],
)
def test_drift_is_taken_from_the_median(speed, before, is_drifted):
    assert steadiness.drifted(speed, before) is is_drifted


@pytest.mark.parametrize(
    ("speeds", "again", "tries", "is_steady"),
    [([1.0], 2, 1, True), ([2, 1.1], 2, 2, True), ([2, 2, 2], 2, 3, False), ([2], 0, 1, False)],
)
def test_a_row_is_measured_again_until_memory_is_as_fast_as_before(speeds, again, tries, is_steady):
    left = iter(speeds)
    found = steadiness.steady(lambda: {"copy_bytes_per_second": next(left)}, [1.0], again)
    assert found["steady"] is is_steady
    assert found["tried_bytes_per_second"] == speeds[:tries]
    assert found["copy_bytes_per_second"] == speeds[-1]
    assert next(left, None) is None


def test_it_waits_for_a_quiet_machine_but_not_for_ever():
    loads, sleeps = iter([1.0, 0.5, 0.2]), []
    assert steadiness.wait_until_quiet(0.3, 60, loads.__next__, sleeps.append) == (0.2, 10.0)
    assert sleeps == [5.0, 5.0]
    assert steadiness.wait_until_quiet(0.3, 20, lambda: 1.0, sleeps.append) == (1.0, 20.0)
    assert steadiness.wait_until_quiet(0.3, 0, lambda: 1.0, sleeps.append) == (1.0, 0.0)


def test_own_work_is_not_that_of_others():
    others = steadiness.Others()
    sum(range(100_000))
    cores = others.cores()
    assert cores is None or cores >= 0


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5])
def test_the_exponent_is_that_of_the_large_end(power):
    sizes = [1, 10, 100, 1000, 10_000]
    values = [7, 7, *(size**power for size in sizes[2:])]
    assert growth.exponent(sizes, values) == pytest.approx(power)


def test_cells_within_two_per_cent_are_level():
    cells = [Cell(value, "") for value in (0.5, 0.98, 0.981, 1.0, 1.02, 1.021, 3)]
    assert verdict.counts(cells) == (2, 3, 2)


def full_row(workload, optimizer, elements, ratio):
    ours = {"compile_seconds": 1.0, "temporary_bytes": 0, "milliseconds": {"median": 2.0}}
    return {
        "workload": workload,
        "optimizer": optimizer,
        "arrays": 400,
        "elements": elements,
        "peers": {"torchwise": ours, "optax": {**ours, "compile_seconds": 0.5}},
        "ratios": {"torchwise": {"optax": ratio}, "torchwise update": {"optax": ratio}},
        "limit_milliseconds": 1.0,
    }


def test_bars_name_the_worst_cell_and_leave_out_what_is_not_measured():
    rows = [full_row("ResNet-50", "sgd", 10**8, 0.997), full_row("small", "adam", 10**4, 0.9)]
    flax = [full_row("train Flax transformer", "adamw", 10**6, 1 / 1.03)]
    optax, temporaries, compilation, step = bars.bars(rows, flax)
    assert optax.worst() == Cell(0.9, "adam, small, optax")
    assert [cell.value for cell in optax.reached()] == [0.997]  # 1.00 in the table
    assert len(temporaries.reached()) == 2
    assert compilation.reached() == []
    assert compilation.worst().value == 2.0
    assert step.reached() == []
    text = "\n".join(verdict.bar_table([optax, temporaries]))
    assert "≥ 1.00 | 1 of 2 | **not reached** | 0.90 (adam, small, optax)" in text
    assert "≤ 2.00 | 2 of 2 | reached" in text
    said = " ".join(verdict.sentences(rows, [optax, temporaries]).split())
    assert "In 2 comparisons" in said
    assert "faster than the peer in 0, level within 2% in 1, and slower in 1" in said
    assert "It reaches 1 of the 2 bars" in said
