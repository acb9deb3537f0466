"""Landmark and pose errors: cases worked by hand, the protocol of 3DDFA step by step, SciPy's angles."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfm_jax.evaluation import landmarks


@pytest.fixture
def truth():
    """Two faces of 68 points whose boxes are 40 x 90 and 100 x 25 pixels: square roots of the areas 60 and 50."""
    points = np.random.default_rng(0).uniform(0.1, 0.9, (2, 68, 2))
    points[:, 0], points[:, 1] = 0, 1
    return points * np.array([[[40, 90]], [[100, 25]]]) + 7


def test_a_shift_of_three_and_four_pixels(truth):
    np.testing.assert_allclose(landmarks.nme_percent(truth + [3, 4], truth), [100 * 5 / 60, 100 * 5 / 50])


def test_one_wrong_point_counts_one_68th_and_the_box_is_the_truths(truth):
    predicted = truth.copy()
    predicted[1, 10] += [0, 340]
    np.testing.assert_allclose(landmarks.nme_percent(predicted, truth), [0, 100 * 340 / 68 / 50], atol=1e-12)


def test_nme_is_the_same_in_a_crop_of_another_size(truth):
    predicted = truth + np.random.default_rng(1).normal(size=truth.shape)
    np.testing.assert_allclose(landmarks.nme_percent(2.5 * predicted - 30, 2.5 * truth - 30),
                               landmarks.nme_percent(predicted, truth))


def test_bad_landmarks_are_refused(truth):
    with pytest.raises(ValueError, match=r"expected \[N, 68, 2\] twice, found \(1, 68, 2\) and \(2, 68, 2\)"):
        landmarks.nme_percent(truth[:1], truth)
    truth[1, :, 0] = 5
    with pytest.raises(ValueError, match="found 1 of 2 faces that do not, the first of them face 1"):
        landmarks.nme_percent(truth, truth)


def test_yaw_bins_weigh_the_same_however_many_faces_they_have():
    yaw = np.array([0, -30, 30.1, -60, 60.5, -89, 95])  # 30 and 60 belong to the bin below, as in 3DDFA
    values = np.array([1, 3, 10, 20, 100, 200, 300.0])
    assert landmarks.by_yaw(values, yaw) == {"0-30": 2, "30-60": 15, "60-90": 200, "mean": pytest.approx(217 / 3)}
    assert landmarks.by_yaw(values[2:4], yaw[2:4]) == {"30-60": 15, "mean": 15}


def test_rotation_error_is_scipys_angle_down_to_small_ones():
    first = Rotation.random(30, rng=0)
    turn = Rotation.from_rotvec(Rotation.random(30, rng=1).as_rotvec() * np.geomspace(1e-3, 1, 30)[:, None])
    error = landmarks.rotation_error_degrees(*((r.as_matrix().astype(np.float32)) for r in (first, turn * first)))
    np.testing.assert_allclose(error, np.degrees(turn.magnitude()), rtol=1e-3, atol=1e-4)
    assert landmarks.rotation_error_degrees(np.eye(3)[None], np.diag([-1.0, -1, 1])[None]) == pytest.approx(180)


@pytest.mark.parametrize(("values", "yaw"), [([1.0, 1.0], [np.nan, 5.0]), ([], []), ([1.0], [1.0, 2.0])])
def test_yaws_that_are_no_numbers_are_in_no_bin(values, yaw):
    with pytest.raises(ValueError, match="values, yaw_degrees: found shapes"):
        landmarks.by_yaw(np.array(values), np.array(yaw))
