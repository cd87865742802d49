"""ZeRO stage 1: the state of whole parameters, shared out over the devices."""

import pytest

from devices import launch
from rounds import FIRST, names_of

pytestmark = pytest.mark.slow

NAMES = names_of(FIRST)


@pytest.fixture(scope="module")
def everything(request):
    names = launch.selected(request, "name")
    return launch.facts(launch.start("sharded_state.py", 8, *names))[0]


@pytest.fixture(params=["Auto", "Explicit"])
def facts(everything, name, request):
    found = everything[f"{name} / {request.param}"]
    assert "error" not in found, found["error"]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_each_device_holds_an_eighth_of_the_state(facts):
    like, numbers = facts["bytes like parameters"], facts["bytes of numbers"]
    assert like >= facts["bytes of one whole"]
    assert facts["parameter bytes"] == [facts["bytes of one whole"]] * 8
    assert facts["state bytes"] == [like + numbers] * 8
    assert facts["shared state bytes"] == [like // 8 + numbers] * 8


@pytest.mark.parametrize("name", NAMES)
def test_the_result_is_that_of_whole_state_to_the_bit(facts):
    assert facts["same bits"]


@pytest.mark.parametrize("name", NAMES)
def test_only_gradients_and_parameters_travel(facts):
    # Gradients are summed, as without shares. New parameters are gathered where they depend on
    # shares; those of ASGD do not.
    assert set(facts["collectives"]) <= {"all-reduce", "reduce-scatter", "all-gather"}
    assert {"all-reduce", "all-gather"} & set(facts["collectives"])
