"""State is born where its parameter is and stays there; an update moves no byte between devices."""

import pytest

from devices import launch
from rounds import FIRST, names_of

NAMES = names_of(FIRST, "schedule", "dragon, correction")
AXES, INITS = ("Auto", "Explicit"), ("eager", "jit")


@pytest.fixture(scope="module")
def everything(request):
    names = launch.selected(request, "name")
    return launch.facts(launch.start("sharded_updates.py", 8, *names))[0]


@pytest.fixture(params=[f"{axes} / {init}" for axes in AXES for init in INITS])
def facts(everything, name, request):
    return everything[f"{name} / {request.param}"]


@pytest.mark.parametrize("name", NAMES)
def test_state_is_born_where_its_parameter_is(facts):
    assert facts["misplaced at init"] == []


@pytest.mark.parametrize("name", NAMES)
def test_everything_stays_where_it_is(facts):
    assert facts["misplaced later"] == []
    assert facts["parameters kept"]


@pytest.mark.parametrize("name", NAMES)
def test_an_update_needs_no_communication(facts):
    assert facts["collectives"] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_bits_are_those_of_one_device(facts):
    assert facts["same bits"]
