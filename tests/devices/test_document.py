"""The examples of the document run on many devices as they are written."""

from pathlib import Path

import pytest

from devices import launch

DOCUMENT = Path(__file__).parents[2] / "docs" / "many-devices.md"


@pytest.mark.slow
def test_the_examples_run_on_eight_devices(tmp_path):
    (found,) = launch.facts(launch.start("document.py", 8, DOCUMENT, tmp_path))
    assert found == {"blocks": 5, "devices": 8}
