"""Sharded state is saved and restored onto any devices, by orbax and as torch's state dict."""

import pytest

from devices import launch
from rounds import FIRST, names_of

pytestmark = pytest.mark.slow

OF_TORCH = names_of(FIRST)
NAMES = names_of(FIRST, "schedule", "dragon, correction")
LAYOUTS = ["same devices", "four devices", "one device"]


@pytest.fixture(scope="module")
def facts(request, tmp_path_factory):
    names, folder = launch.selected(request, "name"), tmp_path_factory.mktemp("checkpoints")
    return launch.facts(launch.start("sharded_checkpoint.py", 8, folder, *names))[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_restores_structure_bits_and_places(facts, name, layout):
    found = facts[name][layout]
    assert found["structure"]  # NamedTuples, not the dicts that orbax returns without a target
    assert found["same bits"]
    assert found["kept"]
    assert found.get("misplaced", []) == []


@pytest.mark.parametrize("name", NAMES)
def test_training_goes_on_from_it(facts, name):
    assert facts[name]["goes on"]


@pytest.mark.parametrize("name", OF_TORCH)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_state_dicts_come_back_next_to_the_parameters(facts, name, layout):
    assert facts[name]["state dict"][layout] == {"same bits": True, "misplaced": []}
