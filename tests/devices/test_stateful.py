"""torch's classes over parameters on eight devices."""

import pytest

from devices import launch
from rounds import FIRST, names_of

pytestmark = pytest.mark.slow

NAMES = names_of(FIRST)


@pytest.fixture(scope="module")
def facts(request):
    names = launch.selected(request, "name")
    return launch.facts(launch.start("stateful.py", 8, *names))[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "when",
    [
        "misplaced",
        "misplaced after loading",
        "misplaced after train_step",
        "misplaced after the functional way",
    ],
)
def test_everything_stays_where_it_was_put(facts, name, when):
    assert facts[name][when] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_bits_are_those_of_one_device(facts, name):
    assert facts[name]["same bits"]
