"""torch's face over parameters on eight devices."""

import pytest

from devices import launch

OPTIMIZERS = ["sgd", "sgd, dampening", "adagrad"]


@pytest.fixture(scope="module")
def facts():
    return launch.facts(launch.start("stateful.py", 8))[0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "when",
    [
        "misplaced",
        "misplaced after loading",
        "misplaced after train_step",
        "misplaced after the functional face",
    ],
)
def test_everything_stays_where_it_was_put(facts, optimizer, when):
    assert facts[optimizer][when] == []


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_bits_are_those_of_one_device(facts, optimizer):
    assert facts[optimizer]["same bits"]
