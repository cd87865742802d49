"""ZeRO stage 1: the state of whole parameters, shared out over the devices."""

import itertools

import pytest

from devices import launch

RUNS = [
    " / ".join(run)
    for run in itertools.product(["sgd", "sgd, dampening", "adagrad"], ["Auto", "Explicit"])
]


@pytest.fixture(scope="module")
def facts():
    return launch.facts(launch.start("sharded_state.py", 8))[0]


def test_the_table_is_complete(facts):
    assert sorted(facts) == sorted(RUNS)


@pytest.mark.parametrize("run", RUNS)
def test_each_device_holds_an_eighth_of_the_state(facts, run):
    found = facts[run]
    counts = found["steps bytes"][0]  # 0-d, whole on every device
    assert counts in (0, 8)
    assert found["state bytes"] == [found["parameter bytes"][0] + counts] * 8
    assert found["shared state bytes"] == [found["parameter bytes"][0] // 8 + counts] * 8


@pytest.mark.parametrize("run", RUNS)
def test_the_result_is_that_of_whole_state_to_the_bit(facts, run):
    assert facts[run]["same bits"]


@pytest.mark.parametrize("run", RUNS)
def test_only_gradients_and_parameters_travel(facts, run):
    # gradients are summed, as without shares; new parameters are gathered
    assert set(facts[run]["collectives"]) <= {"all-reduce", "reduce-scatter", "all-gather"}
    assert "all-gather" in facts[run]["collectives"]
