import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfm_jax.geometry.camera import BEHIND, Orthographic, Perspective, WeakPerspective, frame, to_camera
from sfm_jax.geometry.rotation import rotation_from_euler

RNG = np.random.default_rng(0)
VERTICES = RNG.normal(0, 80, (50, 3)).astype(np.float32)
ROTATION = Rotation.from_euler("yxz", [30, -10, 5], degrees=True).as_matrix().astype(np.float32)
OFFSET, CENTRE = np.float32([10, -20, -600]), np.float32([60, 52])
CAMERAS = {
    "orthographic": Orthographic(ROTATION, OFFSET, np.float32(0.7), CENTRE),
    "weak": WeakPerspective(ROTATION, OFFSET, np.float32(500), CENTRE),
    "perspective": Perspective(ROTATION, OFFSET, np.float32(500), CENTRE),
}


def in_numpy(name):
    """Image points and depth: the textbook formula, in float64."""
    points = VERTICES.astype(np.float64) @ ROTATION.T.astype(np.float64) + OFFSET
    depth = -points[:, 2]
    scale = {"orthographic": 0.7, "weak": 500 / 600, "perspective": 500 / depth[:, None]}[name]
    return CENTRE + np.array([1, -1]) * points[:, :2] * scale, depth, points


@pytest.mark.parametrize("name", CAMERAS)
def test_projection_is_the_textbook_formula(name):
    image, depth, _ = in_numpy(name)
    points = np.asarray(CAMERAS[name].project(VERTICES))
    np.testing.assert_allclose(points[:, :2], image, atol=2e-3)
    assert np.all(np.argsort(points[:, 2]) == np.argsort(-depth))
    np.testing.assert_allclose(CAMERAS[name].project(np.stack([VERTICES] * 2))[1], points, rtol=1e-5)


def test_perspective_is_the_intrinsic_matrix():
    matrix = np.array([[500, 0, 60], [0, 500, 52], [0, 0, 1.0]])
    _, _, points = in_numpy("perspective")
    homogeneous = points * [1, -1, -1] @ matrix.T
    expected = homogeneous[:, :2] / homogeneous[:, 2:]
    np.testing.assert_allclose(CAMERAS["perspective"].project(VERTICES)[:, :2], expected, atol=2e-3)


@pytest.mark.parametrize("name", CAMERAS)
def test_nearness_is_linear_on_the_screen(name):
    """Of three points on a line in space, the middle one's nearness divides as its image does."""
    a, b = VERTICES[:2].astype(np.float64)
    points = np.asarray(CAMERAS[name].project(np.stack([a, b, 0.3 * a + 0.7 * b]).astype(np.float32)), np.float64)
    share = np.linalg.norm(points[2, :2] - points[0, :2]) / np.linalg.norm(points[1, :2] - points[0, :2])
    assert points[2, 2] == pytest.approx((1 - share) * points[0, 2] + share * points[1, 2], rel=1e-4)


def test_nearness_counts_pixels_at_the_depth_of_what_is_shown():
    """A millimetre of depth there is as many pixels as a millimetre across."""
    camera = CAMERAS["perspective"]
    _, depth, points = in_numpy("perspective")
    middle = np.array([0, 0, -depth.mean()]) + [[0, 0, 0], [0, 0, 0.5], [0.5, 0, 0]]
    at, nearer, aside = np.asarray(camera.project(((middle - OFFSET) @ ROTATION).astype(np.float32), VERTICES))
    assert nearer[2] - at[2] == pytest.approx(aside[0] - at[0], rel=2e-3)
    in_camera_space = Perspective(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), camera.focal, CENTRE)
    np.testing.assert_allclose(in_camera_space.project(points.astype(np.float32)), camera.project(VERTICES), rtol=1e-4)


@pytest.mark.parametrize("name", CAMERAS)
def test_unproject_inverts_project(name):
    """A plane z = -600 in camera space, seen by every pixel."""
    camera = CAMERAS[name]
    points = np.asarray(camera.unproject(jnp.full((20, 30), 600.0)))
    world = (points.reshape(-1, 3) - OFFSET) @ ROTATION
    row, column = np.mgrid[:20, :30] + 0.5
    expected = np.stack([column, row], -1).reshape(-1, 2)
    np.testing.assert_allclose(camera.project(world.astype(np.float32))[:, :2], expected, atol=5e-3)


@pytest.mark.parametrize("name", CAMERAS)
def test_crop_is_the_camera_of_the_cut_image(name):
    cropped = CAMERAS[name].crop(np.float32([12, 7]), np.float32(1.5))
    expected = (np.asarray(CAMERAS[name].project(VERTICES))[:, :2] - [12, 7]) * 1.5
    np.testing.assert_allclose(cropped.project(VERTICES)[:, :2], expected, atol=3e-3)


@pytest.mark.parametrize("name", CAMERAS)
def test_gradients_are_finite_differences(name):
    camera = CAMERAS[name]

    def total(camera):
        return jnp.sum(jnp.sin(camera.project(VERTICES)[:, :2] / 50))

    gradient = jax.grad(total)(camera)
    for field, step in (("translation", 0.5), ("centre", 0.2)):
        at = getattr(camera, field)
        for nudge, slope in zip(step * np.eye(len(at), dtype=np.float32), getattr(gradient, field), strict=True):
            up, down = (float(total(camera.replace(**{field: at + sign * nudge}))) for sign in (1, -1))
            assert float(slope) == pytest.approx((up - down) / (2 * step), abs=3e-3)


def test_points_behind_a_perspective_camera_are_marked_and_harmless():
    camera = CAMERAS["perspective"]
    behind = np.float32([[0, 0, 700], [0, 0, 600]]) @ ROTATION  # 100 mm behind, and exactly in the pinhole
    points = camera.project(behind)
    np.testing.assert_array_equal(points[:, 2], np.float32(BEHIND))
    gradient = jax.grad(lambda v: jnp.sum(camera.project(v)))(jnp.asarray(behind))
    np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("field_of_view", [None, 25.0])
def test_frame_shows_everything_at_the_size_asked_for(field_of_view):
    for rotation in Rotation.random(5, rng=np.random.default_rng(1)).as_matrix().astype(np.float32):
        camera = frame(jnp.asarray(VERTICES), (96, 128), rotation, fill=0.8, field_of_view=field_of_view)
        points = np.asarray(camera.project(VERTICES))[:, :2]
        reach = np.linalg.norm(points - [64, 48], axis=1).max()
        assert 0.3 * 96 < reach <= 0.4 * 96 + 0.01
    sphere = np.float32(np.random.default_rng(2).normal(size=(20000, 3)))
    sphere *= 50 / np.linalg.norm(sphere, axis=1, keepdims=True)
    points = np.asarray(frame(jnp.asarray(sphere), (96, 128), ROTATION, 0.8, field_of_view).project(sphere))[:, :2]
    assert np.linalg.norm(points - [64, 48], axis=1).max() == pytest.approx(0.4 * 96, rel=2e-3)


def test_to_camera_is_a_rigid_motion():
    np.testing.assert_allclose(to_camera(VERTICES, ROTATION, OFFSET), VERTICES @ ROTATION.T + OFFSET, atol=1e-3)


def test_a_perspective_camera_from_afar_is_nearly_orthographic():
    rng = np.random.default_rng(3)
    points = jnp.asarray(rng.uniform(-100, 100, (50, 3)), jnp.float32)
    near = Orthographic(rotation_from_euler(jnp.array([20.0, -10.0, 5.0])), jnp.array([3.0, -4.0, 12.0]),
                        jnp.float32(1.2), jnp.array([64.0, 60.0]))
    np.testing.assert_allclose(near.from_afar().project(points)[:, :2], near.project(points)[:, :2], atol=0.35)
    np.testing.assert_allclose(near.from_afar(1e4).project(points)[:, :2], near.project(points)[:, :2], atol=3.5)


def test_a_frame_of_a_mesh_without_size_and_of_a_vertex_in_the_middle():
    turn = jnp.eye(3)
    points = jnp.array([[-1.0, 0, 0], [1.0, 0, 0], [0.0, 0, 0]])
    gradient = jax.grad(lambda vertices: frame(vertices, (20, 20), turn).scale)(points)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    assert float(frame(points[:1], (20, 20), turn).scale) == pytest.approx(1000)
    assert frame(np.zeros((4, 3)) + np.arange(3.0), (20, 20), turn).scale.dtype == jnp.float32
