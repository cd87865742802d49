"""State is born where its parameter is and stays there; an update moves no byte between devices."""

import itertools

import pytest

from devices import launch

TRANSFORMS = ["sgd", "sgd, dampening", "sgd, schedule", "adagrad", "dragon, correction"]
RUNS = [
    " / ".join(run) for run in itertools.product(TRANSFORMS, ["Auto", "Explicit"], ["eager", "jit"])
]


@pytest.fixture(scope="module")
def facts():
    return launch.facts(launch.start("sharded_updates.py", 8))[0]


def test_the_table_is_complete(facts):
    assert sorted(facts) == sorted(RUNS)


@pytest.mark.parametrize("run", RUNS)
def test_state_is_born_beside_its_parameter(facts, run):
    assert facts[run]["misplaced at init"] == []


@pytest.mark.parametrize("run", RUNS)
def test_everything_stays_where_it_is(facts, run):
    assert facts[run]["misplaced later"] == []
    assert facts[run]["parameters kept"]


@pytest.mark.parametrize("run", RUNS)
def test_an_update_needs_no_communication(facts, run):
    assert facts[run]["collectives"] == []


@pytest.mark.parametrize("run", RUNS)
def test_the_bits_are_those_of_one_device(facts, run):
    assert facts[run]["same bits"]
