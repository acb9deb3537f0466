"""The protocols on errors that are known: meshes moved, scaled, swollen by a millimetre, turned and cut."""

import numpy as np
import pytest
import trimesh
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from sfm_jax.evaluation.scan_to_mesh import (
    NOW_LANDMARKS,
    check_neutral,
    cumulative_curve,
    micc_errors,
    now_crop,
    now_errors,
    onto_region,
    region_errors,
    summary,
    surface_errors,
    with_area,
)
from sfm_jax.geometry.closest_point import Surface
from sfm_jax.geometry.icp import IDENTITY, Similarity, similarity_between
from sfm_jax.morphable.default import load_default


@pytest.fixture(scope="module")
def face():
    """vertices [V, 3], triangles [F, 3], the seven landmarks [7, 3]."""
    model = load_default(0)
    vertices = np.asarray(model.mean, np.float64)
    return vertices, model.topology.triangles, vertices[model.topology.landmarks[list(NOW_LANDMARKS)]]


def somewhere(factor=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return Similarity(Rotation.random(rng=rng).as_matrix(), rng.normal(size=3) * 50, factor)


def ball(radius=50.0, subdivisions=4):
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def test_the_seven_landmarks_are_corners_of_eyes_and_mouth_and_the_base_of_the_nose(face):
    """As they lie on a face whose right is at negative x."""
    x = face[0][load_default(0).topology.landmarks, 0]
    right, left, mouth = range(36, 42), range(42, 48), range(48, 60)
    corners = [end(part, key=lambda number: x[number]) for part in (right, left, mouth) for end in (min, max)]
    base = min(range(31, 36), key=lambda number: abs(x[number]))
    assert NOW_LANDMARKS == (*corners[:4], base, *corners[4:])


def test_now_of_the_scan_itself_is_zero_in_any_unit_and_place(face):
    vertices, triangles, landmarks = face
    motion = somewhere(0.001)
    found = now_errors(vertices, landmarks, motion.apply(vertices), triangles, motion.apply(landmarks))
    assert found.report.converged and found.distances.max() < 1e-6
    np.testing.assert_allclose(found.motion.scale, 1000, rtol=1e-6)


def test_now_refines_wrong_landmarks(face):
    vertices, triangles, landmarks = face
    wrong = landmarks + 3.0 * np.random.default_rng(0).normal(size=(7, 3))
    found = now_errors(vertices, landmarks, vertices, triangles, wrong)
    assert found.distances.max() < 1e-6
    before = similarity_between(wrong, landmarks, scale=True).apply(vertices) - vertices
    assert np.linalg.norm(before, axis=1).mean() > 1


def test_now_of_a_mesh_off_by_a_millimetre_along_its_normals():
    """A closed surface that lies in the crop as a whole: no motion makes up for a millimetre, a scale does."""
    (scan, _), (swollen, triangles) = ball(50.0), ball(51.0, subdivisions=6)  # fine: its facets are 3 um deep
    landmarks = np.array([[-90.0, 20, 0], [-30, 20, 0], [30, 20, 0], [90, 20, 0], [0, -20, 0], [-40, -60, 9],
                          [40, -60, 0]])
    found = now_errors(scan, landmarks, swollen, triangles, landmarks, metrical=True)
    np.testing.assert_array_equal(found.rows, np.arange(len(scan)))
    np.testing.assert_allclose(found.distances, 1.0, atol=0.01)
    aligned = now_errors(scan, landmarks, swollen, triangles, landmarks)
    assert aligned.distances.max() < 0.01
    np.testing.assert_allclose(aligned.motion.scale, 50 / 51, rtol=1e-4)


def test_the_alignment_minimises_over_all_points_with_scale():
    """Of a noisy sphere: SciPy's least squares over its middle and radius. A quarter of the points says otherwise."""
    rng = np.random.default_rng(0)
    points, (mesh, triangles) = ball(50.0)[0], ball(51.0, subdivisions=5)
    scan = points * (1 + rng.normal(size=len(points)) / 20)[:, None]
    landmarks = np.array([[-90.0, 20, 0], [-30, 20, 0], [30, 20, 0], [90, 20, 0], [0, -20, 0], [-40, -60, 9],
                          [40, -60, 0]])
    fit = least_squares(lambda p: np.linalg.norm(scan - p[:3], axis=1) - p[3], [0, 0, 0, 50.0])
    expected = np.abs(fit.fun)
    found = now_errors(scan, landmarks, mesh, triangles, landmarks)
    micc = micc_errors(scan, np.zeros(3), Surface(mesh, triangles), IDENTITY)
    for each in (found, micc):
        np.testing.assert_allclose(each.motion.scale, fit.x[3] / 51, rtol=5e-4)
        np.testing.assert_allclose(each.motion.translation, fit.x[:3], atol=0.02)
        np.testing.assert_allclose(each.distances, expected, atol=0.1)
    kept = now_errors(scan, landmarks, mesh, triangles, landmarks, metrical=True)
    assert kept.motion.scale == 1
    np.testing.assert_allclose(kept.distances.mean(), np.abs(np.linalg.norm(scan - fit.x[:3], axis=1) - 51).mean(),
                               atol=0.02)


def test_now_crops_as_the_official_code():
    eyes, rest = [[-45.0, 0, 0], [-15, 0, 0], [15, 0, 0], [45, 0, 0]], [[0, -50, 20], [-25, -80, 0], [25, -80, 0]]
    landmarks = np.array(eyes + rest)
    centre, radius = now_crop(landmarks)
    np.testing.assert_allclose(centre, [0, -35, 14])
    np.testing.assert_allclose(radius, 1.4 * (90 + np.hypot(50, 20)) / 2)


def test_faces_with_an_expression_are_refused(face):
    vertices, triangles, landmarks = face
    expression = np.zeros(51)
    check_neutral(expression)
    check_neutral(None)
    expression[7] = 0.2
    with pytest.raises(ValueError, match="expression: found a code of 0.2, expected 0"):
        now_errors(vertices, landmarks, vertices, triangles, landmarks, expression=expression)
    with pytest.raises(ValueError, match="expression"):
        micc_errors(vertices, landmarks[4], Surface(vertices, triangles), IDENTITY, expression=expression)


def test_wrong_landmarks_and_units_are_named(face):
    vertices, triangles, landmarks = face
    with pytest.raises(ValueError, match=r"scan_landmarks: found shape \(6, 3\), expected \(7, 3\)"):
        now_errors(vertices, landmarks[:6], vertices, triangles, landmarks)
    with pytest.raises(ValueError, match="do scan and landmarks have one unit"):
        now_errors(vertices, landmarks / 1000, vertices, triangles, landmarks)


def test_summary_and_curve_are_of_all_points_together():
    distances = [np.array([0.0, 1.0, 2.0]), np.array([3.0, 10.0])]
    assert summary(distances) == {"median": 2.0, "mean": 3.2, "std": pytest.approx(np.std([0, 1, 2, 3, 10]))}
    np.testing.assert_allclose(cumulative_curve(distances, np.array([0, 2, 2.5, 20])), [20, 60, 60, 100])


def test_micc_measures_across_the_plane_and_within_the_crop(face):
    vertices, triangles, landmarks = face
    tip = vertices[load_default(0).topology.landmarks[30]]
    motion = somewhere(0.5)
    start = similarity_between(motion.apply(landmarks), landmarks, scale=True)
    found = micc_errors(vertices, tip, Surface(motion.apply(vertices), triangles), start)
    assert found.distances.max() < 1e-5
    assert np.linalg.norm(vertices[found.rows] - tip, axis=1).max() <= 95 < np.linalg.norm(vertices - tip, axis=1).max()
    # Points beside a flat square: their distance to it is not 0, the distance to its plane is.
    corners = np.array([[0.0, 0, 0], [100, 0, 0], [100, 100, 0], [0, 100, 0]])
    grid = np.stack(np.meshgrid(np.linspace(-5, 105, 40), np.linspace(-5, 105, 40)), -1).reshape(-1, 2)
    points = np.column_stack([grid, np.zeros(len(grid))])
    square = Surface(corners, np.array([[0, 1, 2], [0, 2, 3]]))
    flat = micc_errors(points, np.array([50.0, 50, 0]), square, IDENTITY)
    assert flat.distances.max() < 1e-6


def test_triangles_without_area_change_nothing():
    """On every edge one that is a line, some that are points, and one across an edge that rounding lifts off it."""
    vertices, triangles = ball(50.0, 2)
    scan = vertices * (1 + 0.06 * np.sin(vertices[:, :1] / 6))
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    middles = vertices[triangles[:, :2]].mean(1) * (1 + 1e-9)
    worse = np.r_[vertices, middles], np.concatenate([
        edges[:, [0, 1, 1]], np.repeat(np.arange(9)[:, None], 3, 1), triangles,
        np.column_stack([triangles[:, :2], len(vertices) + np.arange(len(triangles))])])
    for surface in (Surface(vertices, triangles), Surface(*worse)):
        found = micc_errors(scan, scan[scan[:, 2].argmax()], surface, IDENTITY)
        measured = surface_errors((surface.vertices, surface.triangles), (scan, triangles), samples=500)
        back = surface_errors((scan, triangles), (surface.vertices, surface.triangles), samples=500)
        if surface.triangles is triangles:
            expected, plain, inverse = found, measured, back
    np.testing.assert_allclose(found.distances, expected.distances, atol=1e-4)
    np.testing.assert_allclose(measured, plain, rtol=1e-6)
    np.testing.assert_allclose(back, inverse, rtol=1e-6)
    with pytest.raises(ValueError, match="mesh.ply: triangles: found none with an area, expected a surface"):
        with_area(Surface(vertices, edges[:, [0, 1, 1]]), "mesh.ply: triangles")


def test_a_mesh_off_by_a_millimetre_has_a_chamfer_distance_of_one():
    truth, swollen = ball(50.0), ball(51.0)
    found = surface_errors(swollen, truth)
    np.testing.assert_allclose(found.chamfer, 1.0, atol=0.01)
    assert found.completeness == 1.0 and found.normals < 1.5
    assert surface_errors(truth, truth).chamfer < 1e-6


def test_the_normal_error_of_a_tilted_square_is_its_angle():
    corners, triangles = np.array([[0.0, 0, 0], [10, 0, 0], [10, 10, 0], [0, 10, 0]]), np.array([[0, 1, 2], [0, 2, 3]])
    tilt = Rotation.from_euler("x", 12, degrees=True).as_matrix()
    found = surface_errors((corners @ tilt.T, triangles), (corners, triangles), samples=2000)
    np.testing.assert_allclose(found.normals, 12, atol=1e-6)


def test_completeness_is_the_share_that_is_there():
    vertices, triangles = ball()
    upper = triangles[vertices[triangles].mean(1)[:, 1] > 0]
    found = surface_errors((vertices, upper), (vertices, triangles), reach=1.0, samples=1500)
    np.testing.assert_allclose(found.completeness, 0.5, atol=0.05)
    assert found.chamfer < 0.05
    with pytest.raises(ValueError, match="are the meshes aligned"):
        surface_errors((vertices + 500, triangles), (vertices, triangles))


def test_chamfer_is_the_mean_of_both_ways_over_what_is_within_reach():
    """Shells 0, 9 and 11 mm off a ball, on either side: areas go with squared radii; completeness is of the truth."""
    radii = np.array([60.0, 69, 71])
    (vertices, triangles), areas = ball(60.0, 3), radii**2
    shells = np.concatenate([vertices * radius / 60 for radius in radii])
    together = shells, np.concatenate([triangles + k * len(vertices) for k in range(3)])
    chamfer = 9 * areas[1] / areas[:2].sum() / 2
    for predicted, truth, complete in ((together, (vertices, triangles), 1.0),
                                       ((vertices, triangles), together, areas[:2].sum() / areas.sum())):
        found = surface_errors(predicted, truth, samples=3000)
        np.testing.assert_allclose(found.chamfer, chamfer, atol=0.15)
        np.testing.assert_allclose(found.completeness, complete, atol=0.03)
    # A patch so small that no sample of the truth is near it.
    corners, triangle = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]])
    with pytest.raises(ValueError, match="no point is within 1 of the truth"):
        surface_errors((corners, triangle), (1000 * corners, triangle), reach=1.0, samples=500)


@pytest.fixture(scope="module")
def nose(face):
    """vertices, triangles of the nose's region alone, and the landmarks on it."""
    model = load_default(0)
    vertices, triangles, _ = face
    kept = model.topology.region("nose") > 0.5
    number, landmarks = np.cumsum(kept) - 1, model.topology.landmarks
    inside = triangles[kept[triangles].all(1)]
    return vertices[kept], number[inside], vertices[landmarks[np.isin(landmarks, inside)]]


def test_a_region_of_a_moved_mesh_has_no_error(face, nose):
    vertices, triangles, _ = face
    region, region_triangles, keypoints = nose
    motion = somewhere()
    surface, moved = Surface(motion.apply(vertices), triangles), motion.apply(keypoints)
    back = onto_region(surface, region, keypoints, moved, similarity_between(moved, keypoints))
    found = region_errors(region, region_triangles, keypoints, surface, moved, back)
    assert found.distances.max() < 1e-2
    np.testing.assert_allclose(back.apply(motion.apply(vertices)), vertices, atol=2e-2)


def test_a_region_that_starts_at_the_same_distance_everywhere_is_still_brought_closer():
    corners = np.array([[0.0, 0, 0], [10, 0, 0], [10, 10, 0], [0, 10, 0]])
    surface = Surface(corners, np.array([[0, 1, 2], [0, 2, 3]]))
    region = np.array([[2.0, 2, 5], [8, 3, 5], [5, 7, 5], [4, 4, 5]])
    motion = onto_region(surface, region, np.zeros((0, 3)), np.zeros((0, 3)))
    np.testing.assert_allclose(motion.translation, [0, 0, 5], atol=1e-3)


def test_a_region_knows_what_closest_points_do_not(face, nose):
    """A nose stretched along its own surface: closest points see less of it than corresponding ones."""
    vertices, triangles, _ = face
    region, region_triangles, keypoints = nose
    tip = keypoints.mean(0)

    def longer(points):
        return points + (points - tip) * [0.0, 0.15, 0.0]

    surface, start = Surface(longer(vertices), triangles), similarity_between(longer(keypoints), keypoints)
    motion = onto_region(surface, region, keypoints, longer(keypoints), start)
    found = region_errors(region, region_triangles, keypoints, surface, longer(keypoints), motion)
    truth = np.linalg.norm(motion.apply(longer(region)) - region, axis=1).mean()
    closest = surface.closest(motion.undo(region)).distances.mean()
    assert closest < 0.85 * found.distances.mean() and found.distances.mean() < truth


def test_a_regions_field_is_the_least_squares_one():
    """Rough ground above a plane, on which closest points are feet, and two keypoints: dense least squares, where a
    vertex weighs 1, a keypoint 50, and a vertex's distance from the mean of its neighbours 50."""
    rng, side = np.random.default_rng(0), 6
    corner = np.arange(side * side).reshape(side, side)[:-1, :-1].ravel()
    triangles = np.concatenate([np.stack([corner, corner + 1, corner + side], 1),
                                np.stack([corner + 1, corner + side + 1, corner + side], 1)])
    ground = np.stack([*np.meshgrid(np.arange(side), np.arange(side)), np.zeros((side, side))], -1).reshape(-1, 3) * 4.0
    ground += rng.normal(size=ground.shape)
    plane = Surface(np.array([[-99.0, -99, 0], [199, -99, 0], [-99, 199, 0]]), np.array([[0, 1, 2]]))
    rows, motion = [14, 21], somewhere()
    wanted = ground[rows] * [1, 1, 0] + [[3.0, 0, 0], [0, -2, 0]]
    found = region_errors(motion.apply(ground), triangles, motion.apply(ground[rows]), plane, wanted, motion)
    umbrella = np.eye(len(ground))
    for row in range(len(ground)):
        neighbours = np.setdiff1d(triangles[(triangles == row).any(1)], row)
        umbrella[row, neighbours] = -1 / len(neighbours)
    unit = np.eye(len(ground))
    targets = np.r_[ground * [0, 0, -1], np.sqrt(50) * (wanted - ground[rows]), np.zeros_like(ground)]
    field = np.linalg.lstsq(np.r_[unit, np.sqrt(50) * unit[rows], np.sqrt(50) * umbrella], targets, rcond=None)[0]
    places = (ground + field) * [1, 1, 0]
    np.testing.assert_allclose(found.places, motion.apply(places), atol=1e-6)
    np.testing.assert_allclose(found.distances, np.linalg.norm(places - ground, axis=1), atol=1e-6)
