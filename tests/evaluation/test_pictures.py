"""Pictures of solids whose outline, order in depth and turned position are known."""

import matplotlib
import numpy as np
import pytest
import trimesh

from sfm_jax.evaluation.pictures import BACKGROUND, framing, shaded

FRAME = (np.zeros(3), 100.0)
RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def _plate(half=20.0, centre=(0.0, 0.0, 0.0)):
    corners = np.array([[-half, -half, 0], [half, -half, 0], [half, half, 0], [-half, half, 0]])
    return corners + centre, np.array([[0, 1, 2], [0, 2, 3]])


def _drawn(image):
    return np.any(image != np.round(255 * np.array(BACKGROUND)), axis=-1)


def test_a_sphere_covers_its_disc_without_a_crack():
    ball = trimesh.creation.icosphere(4, radius=40)
    drawn = _drawn(shaded(ball.vertices, ball.faces, 200, yaw=17, pitch=-33, frame=FRAME))
    row, column = np.mgrid[:200, :200] + 0.5
    distance = np.hypot(row - 100, column - 100) / 2  # mm
    assert drawn[distance < 39].all()
    assert not drawn[distance > 40.5].any()


def test_a_plate_stands_where_the_frame_says():
    drawn = _drawn(shaded(*_plate(10, (25, 25, 0)), size=100, frame=FRAME))
    rows, columns = np.nonzero(drawn)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (65, 84, 15, 34)  # right and up of the middle


def test_the_nearer_plate_hides_the_farther_in_either_order():
    far, triangles = _plate(20)
    near = _plate(10, (0, 0, 5))[0]
    for first, second, colors in ((far, near, (RED, BLUE)), (near, far, (BLUE, RED))):
        image = shaded(np.concatenate([first, second]), np.concatenate([triangles, triangles + 4]), 100,
                       color=np.repeat(colors, 4, axis=0), frame=FRAME).astype(int)
        assert image[50, 50, 2] > image[50, 50, 0] + 100
        assert image[50, 35, 0] > image[50, 35, 2] + 100


def test_back_faces_are_culled():
    vertices, triangles = _plate()
    assert not _drawn(shaded(vertices, triangles[:, ::-1], 60, frame=FRAME)).any()
    assert _drawn(shaded(vertices, triangles[:, ::-1], 60, yaw=180, frame=FRAME)).sum() == 24**2


@pytest.mark.parametrize(("angles", "row", "column"), [((40, 0), 0, 1), ((-40, 0), 0, -1), ((0, 40), -1, 0)])
def test_positive_yaw_turns_right_and_positive_pitch_turns_up(angles, row, column):
    nose = trimesh.creation.icosphere(2, radius=5)
    image = shaded(nose.vertices + [0, 0, 30], nose.faces, 100, *angles, frame=FRAME)
    rows, columns = np.nonzero(_drawn(image))
    expected = 50 + 30 * np.sin(np.radians(40)) * np.array([row, column])
    np.testing.assert_allclose([rows.mean() + 0.5, columns.mean() + 0.5], expected, atol=0.5)


def test_numbers_take_the_colours_of_the_map_between_the_limits():
    vertices, triangles = _plate()
    for value, place in ((2.0, 0.0), (3.0, 0.5), (9.0, 1.0)):
        pixel = shaded(vertices, triangles, 60, color=np.full(4, value), limits=(2, 4), frame=FRAME)[30, 30] / 255
        expected = np.array(matplotlib.colormaps["viridis"](place)[:3])
        pixel, expected = (np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for c in (pixel, expected))
        ratio = pixel[1:] / expected[1:]  # one light on a flat plate: almost one factor on every channel
        np.testing.assert_allclose(ratio / ratio.mean(), 1, atol=0.06)


def test_no_background_gives_coverage_as_alpha():
    image = shaded(*_plate(20.5), size=100, frame=FRAME, background=None)
    assert image.shape == (100, 100, 4)
    np.testing.assert_allclose(image[..., 3].sum() / 255, 41**2, rtol=1e-3)
    assert image[29, 50, 3] == 128  # half a pixel of the plate


def test_framing_holds_the_mesh():
    ball = trimesh.creation.icosphere(3, radius=40)
    centre, width = framing(ball.vertices + [100, 0, 0])
    np.testing.assert_allclose(centre, [100, 0, 0], atol=1e-9)
    np.testing.assert_allclose(width, 1.08 * 80)
    assert not _drawn(shaded(ball.vertices, ball.faces, 64))[[0, -1]].any()


def test_wrong_colours_are_refused():
    with pytest.raises(ValueError, match=r"color: expected \[3\], \[4, 3\] or \[4\], found \[5\]"):
        shaded(*_plate(), color=np.zeros(5))
