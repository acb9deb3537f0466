"""From a picture back to pose and shape, on the embedded model: the whole chain of gradients in one test."""

import pytest

from experiments.pictures import fit


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion")
def test_pose_and_shape_are_recovered_from_one_image():
    frames, _ = fit()
    (_, start_angle, start_error, _), (_, angle, error, _) = frames[0], frames[-1]
    assert start_angle == pytest.approx(30.0, abs=0.1)
    assert angle < 1.0
    assert error < 0.5 * start_error
