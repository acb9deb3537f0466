"""Two kills of the campaign in experiments/kill_campaign.py: nothing is lost, and nothing is learned twice."""

import random

import pytest

from experiments import kill_campaign


@pytest.mark.slow
def test_a_run_killed_twice_equals_an_undisturbed_one(tmp_path):
    steps = 60
    expected = kill_campaign.undisturbed(tmp_path / "undisturbed", 2, steps)
    outcome = kill_campaign.disturbed(tmp_path / "killed", 2, [0, 1], 2, steps, expected, random.Random(1))
    assert kill_campaign.passed(outcome), outcome
    assert expected["seen"] == [15] * kill_campaign.ROWS  # 60 batches of 16 are 15 epochs of 64
