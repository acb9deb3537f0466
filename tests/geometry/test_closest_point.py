"""Closest points against trimesh's exact kernel over every triangle, on meshes that are hard for an index."""

import numpy as np
import pytest
import shape_checks
import trimesh

from sfm_jax.geometry import closest_point
from sfm_jax.geometry.closest_point import Surface, closest_points, sample_surface
from sfm_jax.morphable.default import load_default


def brute(points, vertices, triangles):
    """Distances [N]: every triangle tried, by trimesh."""
    corners = np.asarray(vertices, np.float64)[triangles]
    return np.array([np.linalg.norm(trimesh.triangles.closest_point(corners, np.tile(p, (len(corners), 1))) - p,
                                    axis=1).min() for p in points])


def face():
    model = load_default(0)
    return np.asarray(model.mean, np.float64), model.topology.triangles


def uneven():
    """A huge triangle over a heap of tiny ones: one radius for all would prove nothing."""
    rng = np.random.default_rng(0)
    tiny = rng.normal(size=(300, 1, 3)) * 5 + rng.normal(size=(300, 3, 3)) * 0.05
    corners = np.concatenate([tiny, 200 * np.eye(3)[None], rng.normal(size=(5, 3, 3)) * 40])
    return corners.reshape(-1, 3), np.arange(corners.size // 3).reshape(-1, 3)


def slivers():
    """Triangles that are sides, points, and needles."""
    rng = np.random.default_rng(1)
    corners = rng.normal(size=(60, 3, 3)) * 30
    corners[:20, 2] = corners[:20, 1]
    corners[20:30] = corners[20:30, :1]
    corners[30:, 2] = (corners[30:, 0] + corners[30:, 1]) / 2 + 1e-3
    return corners.reshape(-1, 3), np.arange(180).reshape(-1, 3)


@pytest.mark.parametrize("mesh", [face, uneven, slivers], ids=lambda mesh: mesh.__name__)
@pytest.mark.parametrize("away", [0.0, 1.0, 20.0, 300.0])
@pytest.mark.parametrize("asked", [False, True])
def test_agrees_with_every_triangle_tried(mesh, away, asked):
    """One by one, as points of a new surface are looked up, and by cubes."""
    vertices, triangles = mesh()
    rng = np.random.default_rng(2)
    points = sample_surface(vertices, triangles, 60, rng).points + away * rng.normal(size=(60, 3))
    surface = Surface(vertices, triangles)
    if asked:
        surface.closest(points[:1])
    found = surface.closest(points)
    expected = brute(points, vertices, triangles)
    if mesh is slivers:  # trimesh divides by zero there: a side's distance is that of the nearest of its many points
        t = np.linspace(0, 1, 4001)[:, None, None]
        ends = vertices[triangles]
        sides = np.concatenate([ends[:, k] * (1 - t) + ends[:, (k + 1) % 3] * t for k in range(3)])
        expected = np.array([np.linalg.norm(sides - p, axis=2).min() for p in points])
        np.testing.assert_allclose(found.distances, expected, atol=1e-2)
        assert (found.distances <= expected + 1e-4).all()
        return
    np.testing.assert_allclose(found.distances, expected, atol=1e-4)


@pytest.mark.parametrize("away", [0.2, 4.0])
def test_dense_points_agree_with_every_triangle_tried(away):
    """Many of them to a cube; and some that are far from all others."""
    vertices, triangles = face()
    rng = np.random.default_rng(4)
    points = sample_surface(vertices, triangles, 60_000, rng).points + away * rng.normal(size=(60_000, 3))
    points[:40] *= 3
    found = closest_points(points, vertices, triangles)
    some = np.r_[:20, rng.integers(len(points), size=60)]
    np.testing.assert_allclose(found.distances[some], brute(points[some], vertices, triangles), atol=1e-4)


@pytest.mark.parametrize("kept", [2**23, 3000])
def test_asked_again_and_again(kept, monkeypatch):
    """What is remembered of cubes answers for other points of theirs, and may be forgotten at any time."""
    monkeypatch.setattr(closest_point, "_KNOWN", kept)
    monkeypatch.setattr(closest_point, "_PAIRS", 5000)
    vertices, triangles = face()
    surface, rng = Surface(vertices, triangles), np.random.default_rng(5)
    points = sample_surface(vertices, triangles, 3000, rng).points + rng.normal(size=(3000, 3))
    for move in rng.normal(size=(6, 3)) * [[3], [1], [.3], [.1], [30], [0]]:
        found, some = surface.closest(points + move), rng.integers(len(points), size=25)
        np.testing.assert_allclose(found.distances[some], brute((points + move)[some], vertices, triangles), atol=1e-4)


def test_points_beyond_all_cubes():
    vertices, triangles = face()
    points = np.random.default_rng(6).normal(size=(5, 3)) * [[1e3], [1e5], [1e7], [1e7], [1e9]]
    surface, expected = Surface(vertices, triangles), brute(points, vertices, triangles)
    for _ in range(2):
        np.testing.assert_allclose(surface.closest(points).distances, expected, rtol=1e-5)


def test_the_place_that_is_told_is_the_point_that_is_told():
    vertices, triangles = face()
    points = np.random.default_rng(3).normal(size=(500, 3)) * 60
    found = closest_points(points, vertices, triangles)
    at = np.einsum("nk,nkc->nc", found.barycentric, vertices[triangles[found.triangles]])
    np.testing.assert_allclose(at, found.points, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(points - at, axis=1), found.distances, atol=1e-9)
    assert found.barycentric.min() >= -1e-6


def test_a_mesh_far_from_the_origin_is_as_exact():
    vertices, triangles = face()
    points = np.random.default_rng(3).normal(size=(200, 3)) * 60
    near = closest_points(points, vertices, triangles).distances
    np.testing.assert_allclose(closest_points(points + 1e4, vertices + 1e4, triangles).distances, near, atol=1e-4)


def test_one_triangle_and_its_seven_regions():
    corners = np.array([[0.0, 0, 0], [4, 0, 0], [0, 3, 0]])
    points = np.array([[1, 1, 2], [-3, -4, 0], [9, 0, 0], [0, 8, 0], [2, -2, 0], [-5, 1, 0], [2 + 0.6, 1.5 + 0.8, 0.0]])
    found = closest_points(points, corners, np.array([[0, 1, 2]]))
    np.testing.assert_allclose(found.distances, [2, 5, 5, 5, 2, 5, 1], atol=1e-6)


def test_the_rim_is_told_from_the_inside():
    ball = trimesh.creation.icosphere(subdivisions=2, radius=50.0)
    surface = Surface(ball.vertices, ball.faces[ball.triangles_center[:, 2] > 0])
    points = np.array([[0.0, 0, 60], [10, 5, 48], [3, 2, -40], [70, 0, -30]])
    np.testing.assert_array_equal(surface.on_border(surface.closest(points)), [False, False, True, True])


def test_a_corner_of_the_rim_is_on_it_whichever_triangle_is_told():
    """A fan of three triangles about the origin: the middle one has no side on the rim there."""
    vertices = np.array([[0, 0, 0], [2, 0, 0], [1, 2, 0], [-1, 2, 0], [-2, 0, 0]], float)
    surface = Surface(vertices, np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4]]))
    below = surface.closest(np.array([[0.0, -1.0, 0.0]]))
    for triangle in range(3):
        assert surface.on_border(below._replace(triangles=np.array([triangle]), barycentric=np.array([[1.0, 0, 0]])))
    assert not surface.on_border(surface.closest(np.array([[0.0, 1.0, 1.0]]))).any()


def test_samples_lie_on_the_mesh_in_proportion_to_area():
    vertices = np.array([[0.0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 1]])
    triangles = np.array([[0, 1, 2], [0, 1, 3]])
    found = sample_surface(vertices, triangles, 40_000, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(found.triangles) / 40_000, [2 / 3, 1 / 3], atol=0.01)
    np.testing.assert_allclose(found.points[found.triangles == 0].mean(0), [1, 2 / 3, 0], atol=0.02)
    assert closest_points(found.points, vertices, triangles).distances.max() < 1e-6


@pytest.mark.parametrize("points, message", [
    (np.zeros((4, 2)), r"points: found shape \(4, 2\), expected \[N, 3\]"),
    (np.array([[0.0, 0, 0], [0, np.nan, 0]]), "points: row 1 is"),
])
@shape_checks.off()
def test_points_that_are_none_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        closest_points(points, *face())


def test_meshes_that_are_none_are_refused():
    with pytest.raises(ValueError, match="the mesh has none"):
        Surface(np.zeros((3, 3)), np.zeros((0, 3), int))
    with pytest.raises(ValueError, match="no area"):
        sample_surface(np.zeros((3, 3)), np.array([[0, 1, 2]]), 5, np.random.default_rng(0))


def test_a_vertex_of_no_triangle_may_be_anywhere():
    """Two sheets 0.02 mm apart; single precision about an origin far away would mix them up."""
    corners = np.array([[0, 0], [10, 0], [10, 10], [0, 10]])
    sheets = [np.column_stack([corners, np.full(4, height)]) for height in (0.0, 0.02)]
    vertices = np.concatenate([*sheets, [[1e6, 1e6, 1e6]]])
    triangles = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    points = np.random.default_rng(0).uniform([1, 1, 0.018], [9, 9, 0.03], (200, 3))
    found = Surface(vertices, triangles).closest(points)
    np.testing.assert_allclose(found.points[:, 2], 0.02, atol=1e-4)
