"""Measures over yaw on a network that is known: each shape is moved by its person and, less, by the head's yaw."""

import types

import numpy as np
import pytest

from sfm_jax.data.scene import Scene
from sfm_jax.tasks.photo_measures import YAWS, measure_over_yaw

PERSON, DEGREE = 2.0, 0.01  # mm


class Known:
    """Stands in for an Examination."""

    photos = types.SimpleNamespace(persons=3)
    task = types.SimpleNamespace(weights=np.full(5, 0.2))

    def scenes(self, ids):
        return Scene(**{name: np.asarray(ids) for name in Scene._fields})

    def encode(self, scenes):
        moved = PERSON * scenes.person + DEGREE * np.asarray(scenes.pose)[:, 0]
        return {"neutral": np.zeros((len(moved), 5, 3)) + np.stack([moved, 0 * moved, 0 * moved], -1)[:, None]}


def test_over_yaw_by_hand():
    found = measure_over_yaw(Known())
    apart = [DEGREE * abs(a - b) for i, a in enumerate(YAWS) for b in YAWS[:i]]
    assert found["pose/within_mm"] == pytest.approx(np.mean(apart))
    assert found["pose/between_mm"] == pytest.approx((2 + 2 + 4) / 3)
    assert found["pose/ratio"] == pytest.approx(found["pose/between_mm"] / found["pose/within_mm"])
    for yaw in (25, 50, 75):
        assert found[f"pose/change_{yaw}_mm"] == pytest.approx(DEGREE * yaw)
