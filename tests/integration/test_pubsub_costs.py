"""`python -m bench.pubsub` measures what it says it does. What it measures decides no test."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.pubsub import LIMITS, measure


def test_each_step_is_timed_and_the_heartbeat_has_its_work() -> None:
    costs = measure(rounds=1)
    assert costs.told == 50 * 23  # in each topic a quarter of the 92 peers outside of the mesh hear of its messages
    assert all(value > 0 for value in costs.ratios().values())
    assert costs.ratios().keys() == LIMITS.keys()
