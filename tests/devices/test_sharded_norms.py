"""A norm of sharded arrays is one number that devices send; nothing else moves."""

import pytest

from devices import launch


@pytest.mark.slow
def test_norms_of_sharded_gradients():
    (found,) = launch.facts(launch.start("sharded_norms.py", 8))
    assert len(found) == 8
    for name, facts in found.items():
        assert facts["misplaced"] == [], name
        assert facts["apart"] < 1e-6, name
        assert bool(facts["collectives"]) == ("value" not in name), name
        assert set(facts["collectives"]) <= {"all-reduce"}, name
