"""Sharded state is saved and restored onto any devices, by orbax and as torch's state dict."""

import pytest

from devices import launch

TRANSFORMS = ["sgd", "sgd, dampening", "sgd, schedule", "adagrad", "dragon, correction"]
LAYOUTS = ["same devices", "four devices", "one device"]


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return launch.facts(launch.start("sharded_checkpoint.py", 8, folder))[0]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_restores_structure_bits_and_places(facts, transform, layout):
    found = facts[transform][layout]
    assert found["structure"]  # NamedTuples, not the dicts that orbax returns without a target
    assert found["same bits"]
    assert found["kept"]
    assert found.get("misplaced", []) == []


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_training_goes_on_from_it(facts, transform):
    assert facts[transform]["goes on"]


@pytest.mark.parametrize("transform", ["sgd", "sgd, dampening", "adagrad"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_state_dicts_come_back_beside_the_parameters(facts, transform, layout):
    assert facts[transform]["state dict"][layout] == {"same bits": True, "misplaced": []}
