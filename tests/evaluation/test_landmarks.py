"""Landmark and pose errors by hand and against SciPy."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfm_jax.evaluation import landmarks


def test_nme_by_hand():
    truth = np.zeros((1, 68, 2))
    truth[0, 0], truth[0, 1] = (0, 0), (40, 90)  # a box of 40 x 90: sqrt(3600) = 60
    truth[0, 2:] = (20, 30)
    assert landmarks.nme_percent(truth + [3, 4], truth)[0] == pytest.approx(100 * 5 / 60)


def test_bins_by_yaw():
    values, yaw = np.array([1.0, 3.0, 5.0, 9.0, 11.0]), np.array([0, -29.9, 30, -60, 95])
    found = landmarks.by_yaw(values, yaw)
    assert found == {"0-30": 2.0, "30-60": 5.0, "60-90": 10.0, "mean": pytest.approx(17 / 3)}
    assert landmarks.by_yaw(values[:2], yaw[:2]) == {"0-30": 2.0, "mean": 2.0}


def test_rotation_error_is_scipys():
    a, b = Rotation.random(30, random_state=1), Rotation.random(30, random_state=2)
    truth = np.degrees((a * b.inv()).magnitude())
    np.testing.assert_allclose(landmarks.rotation_error_degrees(a.as_matrix(), b.as_matrix()), truth, atol=1e-4)
