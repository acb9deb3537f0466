"""Two kills of the campaign in experiments/kill_campaign.py: nothing is lost, and nothing is learned twice."""

import random

import pytest

from experiments import kill_campaign
from sfm_jax.training.loop import train

STEPS = 60


@pytest.mark.slow
def test_a_run_killed_twice_equals_an_undisturbed_one(tmp_path):
    (tmp_path / "undisturbed").mkdir()
    alone = train(kill_campaign.Counted(tmp_path / "batches"), kill_campaign.config(STEPS), tmp_path / "undisturbed")
    outcome = kill_campaign.disturbed(tmp_path / "killed", 2, [0, 1], 2, STEPS, {"params": alone.params},
                                      random.Random(1))
    assert kill_campaign.passed(outcome, tolerance=1e-5), outcome  # four devices, and one
    assert outcome["epochs"] == 15 and len(outcome["kills"]) == 2  # 60 batches of 16 out of 64
