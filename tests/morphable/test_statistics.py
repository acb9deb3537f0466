"""Shape statistics against scikit-learn, SciPy's optimisers and closed forms."""

import numpy as np
import pytest
import shape_checks
from scipy.optimize import minimize
from sklearn.decomposition import PCA

from sfm_jax.morphable import statistics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def _shapes(rng, count=40, vertices=25):
    return 20 + rng.normal(size=(count, vertices, 3)) * np.linspace(0.2, 4, vertices)[:, None]


def _squared_error(shapes, codes, mean, basis, weights):
    residual = shapes - mean - np.einsum("nk,kvc->nvc", codes, basis)
    return np.einsum("nvc,v->n", residual**2, weights / weights.sum())


@pytest.mark.parametrize("count", [40, 120])  # fewer and more shapes than the 75 coordinates
def test_weighted_pca_is_scikit_learns_in_the_weighted_metric(rng, count):
    shapes, weights = _shapes(rng, count), rng.uniform(0.2, 3, 25)
    root = np.sqrt(weights / weights.sum())[:, None]
    expected = PCA(6, svd_solver="full").fit((shapes * root).reshape(count, -1))
    mean, basis, sigma = statistics.weighted_pca(shapes, weights, 6)
    np.testing.assert_allclose(mean, shapes.mean(0), rtol=1e-6)
    np.testing.assert_allclose(sigma, np.sqrt(expected.explained_variance_), rtol=1e-6)
    directions = (basis * root).reshape(6, -1) / sigma[:, None]
    cosines = np.sum(directions * expected.components_, 1)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-6)
    assert np.all(basis.reshape(6, -1)[np.arange(6), np.abs(basis.reshape(6, -1)).argmax(1)] > 0)


def test_a_vertex_of_zero_weight_follows_by_regression(rng):
    shapes = _shapes(rng)
    shapes[:, 0] = 5 * shapes[:, 1] + 7
    weights = np.ones(25)
    weights[0] = 0
    _, basis, _ = statistics.weighted_pca(shapes, weights, 5)
    np.testing.assert_allclose(basis[:, 0], 5 * basis[:, 1], rtol=1e-4)


def test_too_many_components_are_refused(rng):
    with pytest.raises(ValueError, match="components: 40 shapes of 25 weighted vertices give 1 to 39 components, fou"):
        statistics.weighted_pca(_shapes(rng), None, 40)
    weights = np.where(np.arange(25) < 2, 1.0, 0.0)
    statistics.weighted_pca(_shapes(rng), weights, 6)
    with pytest.raises(ValueError, match="components: 40 shapes of 2 weighted vertices give 1 to 6 components, fou"):
        statistics.weighted_pca(_shapes(rng), weights, 7)


def test_gaussian_codes_of_a_pca_are_its_scores(rng):
    shapes = _shapes(rng)
    mean, basis, sigma = statistics.weighted_pca(shapes, None, 5)
    pca = PCA(5, svd_solver="full").fit(shapes.reshape(40, -1))
    scores = pca.transform(shapes.reshape(40, -1)) / np.sqrt(pca.explained_variance_)
    codes = statistics.best_gaussian_codes(shapes, mean, basis)
    np.testing.assert_allclose(np.abs(codes), np.abs(scores), atol=1e-4)


def test_gaussian_codes_of_a_skew_basis_are_recovered(rng):
    mean, basis, codes = rng.normal(size=(25, 3)), rng.normal(size=(4, 25, 3)), rng.normal(size=(7, 4))
    shapes = mean + np.einsum("nk,kvc->nvc", codes, basis)
    found = statistics.best_gaussian_codes(shapes, mean, basis, rng.uniform(0.1, 1, 25))
    np.testing.assert_allclose(found, codes, atol=1e-10)


@pytest.mark.parametrize("masked", [False, True])
def test_map_fit_minimises_the_negative_log_posterior(rng, masked):
    shapes, mean = _shapes(rng, 2, 6), np.full((6, 3), 20.0)
    identity, expression = rng.normal(size=(3, 6, 3)), rng.normal(size=(2, 6, 3))
    prior_mean, precision, noise = np.array([0.5, -0.2]), np.array([4.0, 0.5]), 1.5
    weights = np.array([0.0, 1, 1, 1, 1, 1]) if masked else None
    found = statistics.map_fit(shapes, mean, identity, expression, prior_mean, precision, noise, weights)
    per_vertex = np.ones(6) if weights is None else weights

    def posterior(codes, shape):
        residual = shape - mean - np.einsum("k,kvc->vc", codes, np.concatenate([identity, expression]))
        data = np.sum(per_vertex[:, None] * residual**2) / noise**2
        return data + np.sum(codes[:3] ** 2) + np.sum(precision * (codes[3:] - prior_mean) ** 2)

    for shape, code in zip(shapes, np.concatenate(found, 1), strict=True):
        best = minimize(posterior, np.zeros(5), (shape,), tol=1e-12)
        np.testing.assert_allclose(code, best.x, atol=1e-5)


def test_map_fit_depends_on_relative_weights_alone(rng):
    args = (_shapes(rng, 2, 6), np.full((6, 3), 20.0), rng.normal(size=(3, 6, 3)), rng.normal(size=(2, 6, 3)),
            np.zeros(2), np.ones(2), 1.0)
    weights = rng.uniform(0.5, 2, 6)
    np.testing.assert_allclose(statistics.map_fit(*args, weights)[0], statistics.map_fit(*args, 50 * weights)[0])


@pytest.mark.parametrize("size", [0.01, 1.0, 30.0])  # shapes well inside, near and far outside the sphere
def test_sphere_codes_beat_every_local_search(rng, size):
    mean, basis, weights = rng.normal(size=(8, 3)), rng.normal(size=(4, 8, 3)), rng.uniform(0.1, 2, 8)
    basis *= np.array([8.0, 3, 1, 0.3])[:, None, None]
    shapes, radius = mean + size * rng.normal(size=(6, 8, 3)), 1.7
    codes = statistics.best_sphere_codes(shapes, mean, basis, radius, weights)
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1, rtol=1e-12)
    found = _squared_error(shapes, radius * codes, mean, basis, weights)

    for shape, error in zip(shapes, found, strict=True):
        def cost(x, shape=shape):
            z = x / np.linalg.norm(x)
            return _squared_error(shape[None], radius * z[None], mean, basis, weights)[0]

        best = min(minimize(cost, rng.normal(size=4), tol=1e-12).fun for _ in range(12))
        np.testing.assert_allclose(error, best, rtol=1e-8)


def _orthonormal_case(curvature, target):
    """Mean 0 and a basis for which the error is sum_i (sqrt(curvature_i) z_i - target_i)^2."""
    curvature = np.asarray(curvature, float)
    vertices = len(curvature)
    basis = np.zeros((vertices, vertices, 3))
    basis[range(vertices), range(vertices), 0] = np.sqrt(curvature * vertices)
    shapes = np.zeros((1, vertices, 3))
    shapes[0, :, 0] = np.asarray(target, float) * np.sqrt(vertices)
    return shapes, np.zeros((vertices, 3)), basis


@pytest.mark.parametrize("target", [
    [0, 0, 0],  # nothing to fit: the least costly axis
    [0, 0.5, 0.5],  # the hard case: no pull along the least costly axis
    [1e-9, 0.5, 0.5],  # almost the hard case
    [1e-290, 0.5, 0.5],
    [0, 30, -40],  # no pull along it, and yet not hard
    [0, 1.5, 0],  # the edge of the hard case: 2 z = 1.5 + ... at shift 0 gives |z| = 1
])
def test_sphere_codes_in_the_hard_case_satisfy_the_global_optimality_condition(target):
    curvature = np.array([1.0, 4.0, 9.0])
    z = statistics.best_sphere_codes(*_orthonormal_case(curvature, target), radius=1.0)[0]
    np.testing.assert_allclose(z @ z, 1, rtol=1e-12)
    pull = np.sqrt(curvature) * target
    multiplier = z @ (pull - curvature * z)  # (A + l I) z = b, hence l = z . (b - A z)
    np.testing.assert_allclose((curvature + multiplier) * z, pull, atol=1e-7)
    assert curvature.min() + multiplier >= -1e-9


def test_sphere_codes_are_recovered_in_many_dimensions(rng):
    basis, mean = rng.normal(size=(64, 50, 3)), rng.normal(size=(50, 3))
    z = rng.normal(size=(200, 64))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    shapes = mean + 8 * np.einsum("nk,kvc->nvc", z, basis)
    np.testing.assert_allclose(statistics.best_sphere_codes(shapes, mean, basis, 8.0), z, atol=1e-8)


def test_compactness_is_the_explained_variance_ratio(rng):
    shapes = _shapes(rng)
    _, _, sigma = statistics.weighted_pca(shapes, None, 39)
    expected = np.cumsum(PCA().fit(shapes.reshape(40, -1)).explained_variance_ratio_)[:39]
    np.testing.assert_allclose(statistics.compactness(sigma), expected, rtol=1e-5)


def test_generalisation_is_the_held_out_reconstruction_error(rng):
    shapes = _shapes(rng)
    mean, basis, _ = statistics.weighted_pca(shapes[:30], None, 8)
    errors = statistics.generalisation(shapes[30:], mean, basis, counts=[1, 4, 8])
    held_out = shapes[30:].reshape(10, -1)
    for error, count in zip(errors, [1, 4, 8], strict=True):
        pca = PCA(count, svd_solver="full").fit(shapes[:30].reshape(30, -1))
        residual = held_out - pca.inverse_transform(pca.transform(held_out))
        expected = np.sqrt(np.mean(np.sum(residual.reshape(10, 25, 3) ** 2, -1), 1)).mean()
        np.testing.assert_allclose(error, expected, rtol=1e-5)
    assert len(statistics.generalisation(shapes[30:], mean, basis)) == 8


def test_specificity_is_the_distance_to_the_nearest_real_shape(rng):
    population, weights = _shapes(rng, 12), rng.uniform(0, 1, 25)
    offset = rng.normal(size=(12, 1, 3)) * 1e-2
    expected = np.linalg.norm(offset[:, 0], axis=1).mean()  # a constant offset is its own weighted rms
    np.testing.assert_allclose(statistics.specificity(population + offset, population, weights), expected, rtol=1e-6)


@pytest.mark.parametrize("weights", [np.zeros(25), -np.ones(25), np.ones(24)])
@shape_checks.off()
def test_bad_weights_are_refused(rng, weights):
    with pytest.raises(ValueError, match=r"weights: expected \[25\] values >= 0, not all zero"):
        statistics.weighted_pca(_shapes(rng), weights, 3)
