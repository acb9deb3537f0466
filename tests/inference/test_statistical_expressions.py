"""Faces whose expressions are of either sign: drawn, fitted, kept in files. The embedded model's, turned round."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from known_scan import Scan

from sfm_jax.convert import write
from sfm_jax.data.people import people_of
from sfm_jax.data.scans import Capture, PopulationScans
from sfm_jax.data.scene import Conditions, Scenes
from sfm_jax.inference import fitting
from sfm_jax.inference.face import FaceCodes
from sfm_jax.inference.photo_fitting import _Change, changed
from sfm_jax.inference.scan_fitting import fit_scan
from sfm_jax.morphable.default import load_default
from sfm_jax.morphable.formats import load_face_model
from sfm_jax.morphable.model import MorphableModel

ACTIVE = 0.3  # of an activation: what one standard deviation here is


@pytest.fixture(scope="module")
def model():
    full = load_default(0)
    return full.replace(expression_basis=-ACTIVE * full.expression_basis, expression_kind="statistical")


def test_a_scan_is_fitted_with_negative_numbers(model):
    activations = load_default(0)
    scan = Scan(activations, 0, noise=0.2)
    fit = fit_scan(model, scan.points, landmarks=scan.landmarks)
    triangles = model.topology.triangles
    assert scan.error(fit, triangles) < 0.25
    assert fit.expression[model.expression_names.index("jawOpen")] < -0.3 and np.abs(fit.expression).max() <= 3
    kept_positive = fit_scan(model.replace(expression_kind="activations"), scan.points, landmarks=scan.landmarks)
    assert scan.error(fit, triangles) < 0.9 * scan.error(kept_positive, triangles)


def test_points_are_fitted_with_negative_numbers(model):
    rng = np.random.default_rng(0)
    points = fitting.point_model(model.replace(expression_basis=model.expression_basis[:8]),
                                 np.arange(0, len(model.mean), 20), 10)
    identity, expression = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in (10, 8))
    seen = fitting.project(points, identity, expression, jnp.eye(3), jnp.zeros(()), jnp.zeros(2))
    exact = fitting.Settings(deviation=1e-4, robust=np.inf, iterations=100)
    found = jax.jit(fitting.fit_points, static_argnames="settings")(
        points, seen[None], jnp.ones((1, len(seen))), fitting.standard_prior(points), settings=exact)
    assert expression.min() < -1
    np.testing.assert_allclose(found.identity, identity, atol=0.1)
    np.testing.assert_allclose(found.expression[0], expression, atol=0.1)


def test_expressions_of_scans_are_normal():
    model = toy.model().replace(expression_kind="statistical")
    still = Capture(rotation_degrees=0, translation=0, deformation=0, weight=0, noise=0, missing=0)
    scans = PopulationScans(model, np.zeros((1, 6)), 3000, still, seed=0)
    moved = scans.batch(np.arange(3000))["vertices"] - np.asarray(model.mean)
    basis = np.asarray(model.expression_basis).reshape(3, -1)
    codes = np.linalg.lstsq(basis.T, moved.reshape(3000, -1).T, rcond=None)[0].T
    np.testing.assert_allclose(codes.mean(0), 0, atol=0.06)
    np.testing.assert_allclose(codes.std(0), 1, atol=0.05)  # clipped at 3
    assert np.abs(codes).max() <= 3.001


def test_expressions_of_photos_are_normal(model):
    scenes = Scenes(model, people_of(model, 4, 0), Conditions(expression=0.2), 0)
    codes = jax.jit(scenes.__call__)(jnp.arange(400)).expression
    np.testing.assert_allclose(codes.std(), 0.5, atol=0.02)  # half of what is usual
    np.testing.assert_allclose(codes.mean(), 0, atol=0.02)


@pytest.mark.parametrize(("kind", "expected"), [("activations", (0, 0.4, 1)), ("statistical", (-3, 0.4, 3))])
def test_a_change_stays_within_the_bounds(kind, expected):
    codes = FaceCodes(*map(jnp.zeros, (2, 3, 2)), jnp.eye(3), jnp.zeros(()), jnp.zeros(2), jnp.zeros((9, 3)))
    move = _Change(*map(jnp.zeros, (2, 3, 2, 3, ())), jnp.zeros(2), jnp.zeros((9, 3)))
    bounds = toy.model().replace(expression_kind=kind).expression_bounds
    found = changed(codes, move._replace(expression=jnp.array([-5.0, 0.4, 5.0])), bounds)
    np.testing.assert_allclose(found.expression, expected, atol=1e-6)


@pytest.mark.parametrize("suffix", ("npz", "bin", "glb"))
@pytest.mark.parametrize("kind", ("activations", "statistical"))
def test_files_keep_the_kind(tmp_path, suffix, kind):
    model = load_default(0)
    model = model.replace(identity_basis=model.identity_basis[:3], identity_sigma=model.identity_sigma[:3],
                          expression_basis=model.expression_basis[:2], expression_names=model.expression_names[:2],
                          expression_kind=kind)
    write(tmp_path / f"model.{suffix}", model)
    again = load_face_model(tmp_path / f"model.{suffix}")
    assert again.expression_kind == kind
    truth, found = (np.ptp(np.asarray(each.expression_basis), (1, 2)) for each in (model, again))
    np.testing.assert_allclose(found, truth, rtol=1e-3)


def test_older_files_have_activations_and_other_kinds_are_refused(tmp_path):
    toy.model().save(tmp_path / "model.npz")
    arrays = dict(np.load(tmp_path / "model.npz"))
    del arrays["expression_kind"]
    np.savez(tmp_path / "older.npz", **arrays)
    assert MorphableModel.load(tmp_path / "older.npz").expression_kind == "activations"
    np.savez(tmp_path / "other.npz", **arrays, expression_kind="grimaces")
    with pytest.raises(ValueError, match="key 'expression_kind': found 'grimaces', expected activations or statist"):
        MorphableModel.load(tmp_path / "other.npz")
