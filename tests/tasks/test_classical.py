import numpy as np
import pytest
from sklearn.linear_model import Ridge

from sfm_jax.tasks import classical


def test_lifting_keeps_the_code_and_lands_on_the_sphere():
    codes = np.random.default_rng(0).normal(size=(50, 7))
    radius = float(np.linalg.norm(codes, axis=1).max())
    z = classical.lift_to_sphere(codes, radius)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(radius * z[:, :7], codes, atol=1e-4)
    outside = classical.lift_to_sphere(3.0 * codes[:1], 0.1)
    np.testing.assert_allclose(outside[0, :7], codes[0] / np.linalg.norm(codes[0]), atol=1e-5)


def test_ridge_is_scikit_learns():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 5)) + 3.0, rng.normal(size=(40, 2))
    kernel, bias = classical.ridge(x, y, penalty=0.1)
    reference = Ridge(alpha=0.1 * 40).fit(x, y)
    np.testing.assert_allclose(kernel.T, reference.coef_, atol=1e-4)
    np.testing.assert_allclose(bias, reference.intercept_, atol=1e-4)


def test_whitening_gives_uncorrelated_unit_features(toy_model):
    rng = np.random.default_rng(2)
    shapes = np.asarray(toy_model.decode(rng.normal(size=(200, 6)).astype(np.float32)))
    whitening = classical.fit_whitening(shapes, np.full(42, 1 / 42, np.float32), 4)
    features = whitening(shapes)
    np.testing.assert_allclose(np.cov(features.T), np.eye(4), atol=2e-2)
    np.testing.assert_allclose(features.mean(0), 0.0, atol=1e-3)


def test_metric_weights_are_areas_on_the_face(toy_model):
    weights = classical.metric_weights(toy_model)
    assert weights.sum() == pytest.approx(1.0, abs=1e-5)
    assert (weights > 0).all()
