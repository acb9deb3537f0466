"""Iterative closest points against motions that are known, and its closed form against the float32 one."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfm_jax.geometry.alignment import procrustes
from sfm_jax.geometry.closest_point import Surface, sample_surface
from sfm_jax.geometry.icp import IDENTITY, METRICS, Similarity, icp, similarity_between
from sfm_jax.morphable.default import load_default


@pytest.fixture(scope="module")
def surface():
    model = load_default(0)
    return Surface(np.asarray(model.mean), model.topology.triangles)


@pytest.fixture(scope="module")
def on_face(surface):
    return sample_surface(surface.vertices, surface.triangles, 1500, np.random.default_rng(0)).points


def motion(degrees, factor=1.0):
    return Similarity(Rotation.from_rotvec(np.deg2rad(degrees) * np.array([0.6, 0.64, 0.48])).as_matrix(),
                      np.array([5.0, -8.0, 6.0]), factor)


@pytest.mark.parametrize("factor", [1.0, 1.15])
@pytest.mark.parametrize("degrees", [4, 25])
def test_a_known_motion_is_recovered_exactly(surface, on_face, degrees, factor):
    truth = motion(degrees, factor)
    found = icp(surface, truth.apply(on_face), scale=factor != 1)
    assert found.report.converged and found.report.iterations < 15
    np.testing.assert_allclose(found.motion.rotation, truth.rotation, atol=1e-8)
    np.testing.assert_allclose(found.motion.translation, truth.translation, atol=1e-6)
    np.testing.assert_allclose(found.motion.scale, factor, atol=1e-9)
    assert found.distances.max() < 1e-4


def test_point_to_point_finds_it_slowly(surface, on_face):
    truth = motion(8, 1.1)
    found = icp(surface, truth.apply(on_face[:500]), scale=True, metric="point", iterations=200)
    assert found.report.converged and found.report.iterations > 20
    np.testing.assert_allclose(found.motion.rotation, truth.rotation, atol=1e-4)
    np.testing.assert_allclose(found.motion.translation, truth.translation, atol=5e-3)
    assert (np.diff(found.report.residuals) <= 0).all()


@pytest.mark.parametrize("metric", METRICS)
def test_a_scale_that_is_not_asked_for_is_kept(surface, on_face, metric):
    start = motion(3, 2.0)
    truth = Similarity(motion(6).rotation, np.array([4.0, -9.0, 5.0]), 2.0)
    found = icp(surface, truth.apply(on_face[:400]), start, metric=metric, iterations=200)
    assert found.motion.scale == 2.0
    np.testing.assert_allclose(found.motion.rotation, truth.rotation, atol=1e-4)


def test_strays_beyond_the_cutoff_do_not_pull(surface, on_face):
    truth = motion(4)
    points = truth.apply(on_face)
    points[::5] += [60.0, 10.0, 250.0]
    pulled, cut = icp(surface, points), icp(surface, points, cutoff=25.0)
    assert np.abs(pulled.motion.translation - truth.translation).max() > 1
    np.testing.assert_allclose(cut.motion.translation, truth.translation, atol=1e-6)
    np.testing.assert_allclose(cut.report.used, 0.8, atol=0.02)


def test_the_distance_is_in_the_unit_of_the_points(surface):
    normals = surface.normals
    middle = surface.vertices[surface.triangles].mean(1)
    points = 0.001 * (middle + 0.01 * normals)
    start = Similarity(np.eye(3), np.zeros(3), 0.001)
    found = icp(surface, points, start, iterations=0)
    np.testing.assert_allclose(np.median(found.distances), 1e-5, rtol=1e-4)
    assert found.distances.max() < 1.001e-5
    assert not found.report.converged and len(found.report.residuals) == 1


def test_a_search_that_was_cut_short_says_so(surface, on_face):
    report = icp(surface, motion(25).apply(on_face), iterations=2).report
    assert not report.converged and report.iterations == 2 and report.residuals[-1] > 0.1


def test_the_closed_form_agrees_with_the_one_in_single_precision():
    rng = np.random.default_rng(0)
    source, weights = rng.normal(size=(12, 3)) * 50, rng.uniform(size=12)
    target = motion(70, 1.3).apply(source) + rng.normal(size=(12, 3))
    ours = similarity_between(source, target, weights, scale=True)
    rotation, translation, scale = procrustes(*(x.astype(np.float32) for x in (source, target, weights)), scale=True)
    np.testing.assert_allclose(ours.rotation, rotation, atol=1e-5)
    np.testing.assert_allclose(ours.translation, translation, atol=1e-2)
    np.testing.assert_allclose(ours.scale, scale, rtol=1e-5)


def test_motions_compose_and_invert():
    points, first, second = np.random.default_rng(0).normal(size=(5, 3)), motion(20, 1.2), motion(-50, 0.7)
    np.testing.assert_allclose(first.then(second).apply(points), second.apply(first.apply(points)), atol=1e-12)
    np.testing.assert_allclose(first.undo(first.apply(points)), points, atol=1e-12)
    np.testing.assert_array_equal(IDENTITY.apply(points), points)


def test_wrong_input_is_named(surface):
    with pytest.raises(ValueError, match="metric: found 'line', expected one of plane, point"):
        icp(surface, np.zeros((5, 3)), metric="line")
    with pytest.raises(ValueError, match="P >= 3"):
        similarity_between(np.zeros((2, 3)), np.ones((2, 3)))


def test_points_in_one_place_have_no_scale():
    with pytest.raises(ValueError, match="source: all points are in one place"):
        similarity_between(np.ones((4, 3)), np.eye(4)[:, :3], scale=True)
