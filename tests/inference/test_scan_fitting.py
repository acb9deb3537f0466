"""Scans made of faces that are known: what is found against the true surface, holes, strays and motion included."""

import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import shape_checks
import trimesh
from known_scan import Scan
from scipy.spatial.transform import Rotation

from sfm_jax.geometry.closest_point import Surface, closest_points, sample_surface
from sfm_jax.geometry.icp import Similarity
from sfm_jax.inference.scan_checks import check_units, known_landmarks
from sfm_jax.inference.scan_fitting import Settings, fit_scan, load_scan
from sfm_jax.inference.scan_start import find_starts, spread_rotations
from sfm_jax.morphable.default import load_default
from sfm_jax.morphable.formats import load_face_model

KEPT = 80  # identity components of the model that is fitted: the people have 120


@pytest.fixture(scope="module")
def full():
    return load_default(0)


@pytest.fixture(scope="module")
def model(full):
    """A model that cannot quite say what the people look like."""
    return full.replace(identity_basis=full.identity_basis[:KEPT], identity_sigma=full.identity_sigma[:KEPT])


def test_a_noisy_scan_with_holes_is_found_to_less_than_a_millimetre(full, model):
    scan = Scan(full, 0, noise=2.0)
    landmarks = scan.landmarks + 1.5 * np.random.default_rng(0).normal(size=(68, 3))
    fit = fit_scan(model, scan.points, landmarks=landmarks)
    assert scan.error(fit, model.topology.triangles) < 0.8
    assert fit.report.start == "landmarks" and fit.report.converged and fit.report.used > 0.98
    np.testing.assert_allclose(fit.report.deviation, 2.0, rtol=0.15)
    assert fit.identity.shape == (KEPT,) and 0 <= fit.expression.min() and fit.expression.max() <= 1
    found = Surface(fit.placed, model.topology.triangles).closest(scan.points).distances
    np.testing.assert_allclose(fit.distances, found, atol=1e-3)


def test_a_clean_scan_is_found_without_landmarks_wherever_it_is(full, model):
    scan = Scan(full, 1, noise=0.1)
    fit = fit_scan(model, scan.points)
    assert fit.report.start == "search" and scan.error(fit, model.topology.triangles) < 0.25
    turned = np.rad2deg(Rotation.from_matrix(fit.rotation.T @ scan.motion.rotation).magnitude())
    assert turned < 1.5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
def test_the_search_comes_near_from_every_side(full, model, seed):
    scan = Scan(full, seed, noise=1.0, count=3000)
    starts = find_starts(model, scan.points)
    errors = [np.linalg.norm(start.apply(np.asarray(model.mean)) - scan.vertices, axis=1)[scan.face].mean()
              for start in starts]
    assert len(starts) > 1 and min(errors) < 12
    apart = np.rad2deg(Rotation.from_matrix(starts[0].rotation.T @ starts[1].rotation).magnitude())
    assert apart > 15


def test_strays_do_not_pull(full, model):
    clean, dirty = (Scan(full, 2, noise=0.3, count=4000, strays=strays) for strays in (0, 600))
    fits = [fit_scan(model, scan.points, landmarks=scan.landmarks) for scan in (clean, dirty)]
    errors = [clean.error(fit, model.topology.triangles) for fit in fits]
    assert errors[1] < errors[0] + 0.15
    assert 0.7 < fits[1].report.used < 0.95


def test_normals_keep_the_back_of_a_thin_surface_out(full, model):
    scan = Scan(full, 3, noise=0.1)
    behind = scan.points - 3.0 * scan.normals
    points, normals = np.concatenate([scan.points, behind]), np.concatenate([scan.normals, -scan.normals])
    with_normals = fit_scan(model, points, normals=normals, landmarks=scan.landmarks)
    without = fit_scan(model, points, landmarks=scan.landmarks)
    errors = [scan.error(fit, model.topology.triangles) for fit in (with_normals, without)]
    assert errors[0] < 0.4 < 1.0 < errors[1]


def test_a_scan_with_a_size_of_its_own(full, model):
    scan = Scan(full, 4, noise=0.2, factor=0.013)
    fit = fit_scan(model, scan.points, landmarks=scan.landmarks, scale=True)
    np.testing.assert_allclose(fit.scale, 0.013, rtol=0.03)
    assert scan.error(fit, model.topology.triangles) / 0.013 < 0.5


@pytest.mark.slow
def test_a_size_is_found_without_landmarks_too(full, model):
    scan = Scan(full, 4, noise=0.2, factor=0.013)
    np.testing.assert_allclose(fit_scan(model, scan.points, scale=True).scale, 0.013, rtol=0.06)


def test_a_bump_that_no_code_can_say_is_found_by_displacement(full, model):
    scan = Scan(full, 5, noise=0.1, hole=0, motion=Similarity(np.eye(3), np.zeros(3), 1.0))
    cheek = scan.landmarks[30] + [30.0, 0.0, -25.0]
    tip = scan.points[np.linalg.norm(scan.points - cheek, axis=1).argmin()]
    bump = 4 * np.exp(-np.square(scan.points - tip).sum(1) / 12**2)
    points = scan.points + bump[:, None] * scan.normals
    fits = [fit_scan(model, points, landmarks=scan.landmarks, displace=displace) for displace in (False, True)]
    there = bump > 2
    assert there.sum() > 50
    codes_alone, displaced = (fit.distances[there].mean() for fit in fits)
    assert displaced < 0.25 and displaced < codes_alone / 2
    far = np.linalg.norm(fits[1].vertices - fits[0].vertices, axis=1)[np.linalg.norm(
        np.asarray(fits[0].placed) - tip, axis=1) > 60]
    assert far.mean() < 0.5


def test_few_landmarks_are_enough_and_two_are_not(full, model):
    scan = Scan(full, 0, noise=0.3)
    few = np.full((68, 3), np.nan)
    few[[36, 45, 33, 54]] = scan.landmarks[[36, 45, 33, 54]]
    assert scan.error(fit_scan(model, scan.points, landmarks=few), model.topology.triangles) < 0.5
    few[[45, 54]] = np.nan
    with pytest.raises(ValueError, match="landmarks: found 2 known, expected at least 3"):
        fit_scan(model, scan.points, landmarks=few)


def test_the_same_scan_gives_the_same_face(full, model):
    scan = Scan(full, 1, noise=0.5, count=2000)
    first, second = (fit_scan(model, scan.points, landmarks=scan.landmarks, settings=Settings(samples=1000))
                     for _ in range(2))
    np.testing.assert_array_equal(first.identity, second.identity)


@pytest.mark.parametrize(("change", "message"), [
    (lambda scan: scan.landmarks / 1000, "landmarks: half of them lie .* do both have one unit and place"),
    (lambda scan: scan.landmarks + [200, 0, 0], "landmarks: half of them lie .* do both have one unit and place"),
    (lambda scan: scan.motion.apply(scan.motion.undo(scan.landmarks) * [-1, 1, 1]), "landmarks: found .* not mirrored"),
    (lambda scan: scan.landmarks[::-1], "landmarks: found .* in this order")])
def test_landmarks_of_another_unit_place_or_order_are_told(full, change, message):
    scan = Scan(full, 0, noise=0.5, count=500)
    with pytest.raises(ValueError, match=message):
        fit_scan(full, scan.points, landmarks=change(scan))


@pytest.mark.parametrize(("name", "rows"), [("jawOpen", range(48, 68)), ("eyeBlinkRight", range(36, 42))])
def test_landmarks_of_an_open_mouth_or_a_closed_eye_alone_are_sound(full, name, rows):
    open_mouth = np.float32([each == name for each in full.expression_names])
    shape = np.asarray(full.decode(jnp.zeros(1), jnp.asarray(open_mouth)), np.float64)
    landmarks = np.full((68, 3), np.nan)
    landmarks[list(rows)] = shape[full.topology.landmarks[list(rows)]]
    which, places = known_landmarks(full, shape, landmarks, scale=False)
    assert len(which) == len(places) == len(rows)


@pytest.mark.parametrize("known", ["landmarks", "start", "nothing"])
def test_inward_normals_are_told(full, known):
    scan = Scan(full, 0, noise=0.5, count=1500)
    where = {"landmarks": {"landmarks": scan.landmarks}, "start": {"start": scan.motion}, "nothing": {}}[known]
    assert fit_scan(full, scan.points, normals=scan.normals, **where).report.used > 0.9
    with pytest.raises(ValueError, match="normals: most of those at the face point into it, expected outward ones"):
        fit_scan(full, scan.points, normals=-scan.normals, **where)


@pytest.mark.parametrize("factor, message", [
    (0.001, "metres? multiply by 1000"), (0.1, "centimetres? multiply by 10"), (1 / 25.4, "inches? multiply by 25.4"),
    (1000.0, "micrometres? multiply by 0.001"), (1e-7, "give scale=True")])
def test_units_are_told_by_the_size(full, factor, message):
    points = np.asarray(full.mean)[full.topology.region("face") > 0.5].astype(np.float64)
    check_units(full, points)
    with pytest.raises(ValueError) as error:
        fit_scan(full, points * factor)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_start_from_where_no_face_is_seen_is_an_error(full):
    far = Similarity(np.eye(3), np.array([0.0, 0.0, 3000.0]), 1.0)
    with pytest.raises(ValueError, match="points: none came to lie on the face"):
        fit_scan(full, np.asarray(full.mean)[:500], start=far, settings=Settings(iterations=1))


@shape_checks.off()
def test_wrong_shapes_are_named(full):
    points = np.asarray(full.mean)
    with pytest.raises(ValueError, match=r"points: row 3 is"):
        fit_scan(full, np.where(np.arange(len(points))[:, None] == 3, np.nan, points))
    with pytest.raises(ValueError, match=r"landmarks: found shape \(7, 3\), expected \(68, 3\)"):
        fit_scan(full, points, landmarks=np.zeros((7, 3)))
    with pytest.raises(ValueError, match="normals: found 5, expected one for each of"):
        fit_scan(full, points, normals=np.ones((5, 3)))


@pytest.mark.parametrize("suffix", [".ply", ".obj"])
def test_meshes_and_clouds_of_files(full, tmp_path, suffix):
    vertices, triangles = np.asarray(full.mean), full.topology.triangles
    trimesh.Trimesh(vertices, triangles, process=False).export(tmp_path / f"scan{suffix}")
    points, normals = load_scan(tmp_path / f"scan{suffix}", samples=500)
    found = closest_points(points, vertices, triangles)
    assert found.distances.max() < 1e-4
    facing = (normals * Surface(vertices, triangles).normals[found.triangles]).sum(1)
    assert np.median(facing) > 0.999
    trimesh.PointCloud(vertices).export(tmp_path / "cloud.ply")
    points, normals = load_scan(tmp_path / "cloud.ply")
    np.testing.assert_allclose(points, vertices, atol=1e-4)
    assert normals is None


def test_a_triangle_of_no_vertex_is_named(tmp_path):
    path = tmp_path / "scan.ply"
    path.write_text("ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
                    "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
                    "0 0 0\n1 0 0\n0 1 0\n3 0 1 9\n")
    with pytest.raises(ValueError, match=r"scan.ply: triangles: indices 0..9, expected 0..2"):
        load_scan(path)


def test_a_file_that_is_no_mesh_is_named(tmp_path):
    path = tmp_path / "scan.ply"
    path.write_text("nothing")
    with pytest.raises(ValueError, match="scan.ply: not a readable mesh"):
        load_scan(path)


def test_rotations_are_spread_evenly():
    turns = Rotation.from_matrix(spread_rotations(600))
    asked = Rotation.random(200, rng=np.random.default_rng(0))
    nearest = [np.rad2deg((turns * one.inv()).magnitude().min()) for one in asked]
    assert max(nearest) < 30


@pytest.mark.slow
def test_the_ict_face_is_fitted_alike():
    path = Path(os.environ.get("SFM_JAX_TEST_DATA", "/nowhere")) / "ict" / "ict_face_f16.npz"
    if not path.exists():
        pytest.skip("SFM_JAX_TEST_DATA has no ict/ict_face_f16.npz")
    model = load_face_model(path, unit="cm", keys={"landmarks": "landmarks68"})
    rng = np.random.default_rng(0)
    code = rng.normal(size=100).astype(np.float32)
    shape = np.asarray(model.decode(jnp.asarray(code)), np.float64)
    points = sample_surface(shape, model.topology.triangles, 10_000, rng).points + rng.normal(size=(10_000, 3))
    motion = Similarity(Rotation.random(rng=rng).as_matrix(), rng.normal(size=3) * 100, 1.0)
    truth = motion.apply(shape)
    fit = fit_scan(model, motion.apply(points), landmarks=truth[model.topology.landmarks])
    assert closest_points(truth, fit.placed, model.topology.triangles).distances.mean() < 1.0
