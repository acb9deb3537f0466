"""Losses on photos against NumPy, SciPy, closed forms and finite differences."""

import chex
import hypothesis.extra.numpy as arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy import stats
from scipy.ndimage import map_coordinates
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cosine, euclidean
from scipy.spatial.transform import Rotation

from sfm_jax.losses import confidence, distribution, image, landmark, perceptual, pose
from sfm_jax.losses.masks import masked_mean


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# ----------------------------------------------------------------------------------------------------- masks

@settings(max_examples=25, deadline=None)
@given(arrays.arrays(np.bool_, (3, 4)), arrays.arrays(np.float32, 4, elements=st.sampled_from([0.25, 1.0, 3.0])))
def test_masked_mean_is_numpys_average_of_what_is_labelled(mask, weights):
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    share = mask * weights
    expected = np.average(values, weights=share) if mask.any() else 0.0
    assert float(masked_mean(values, mask.astype(np.float32), weights)) == pytest.approx(expected, rel=1e-5)


def test_nothing_labelled_is_zero_with_zero_gradient_whatever_the_values():
    values = jnp.array([1.0, jnp.nan, jnp.inf])
    value, gradient = jax.value_and_grad(masked_mean)(values, jnp.zeros(3))
    assert value == 0 and np.all(np.asarray(gradient) == 0)
    value, gradient = jax.value_and_grad(masked_mean)(values, jnp.array([1.0, 0.0, 0.0]))
    assert value == 1 and np.array_equal(gradient, [1, 0, 0])


# ------------------------------------------------------------------------------------------------- landmarks

def test_landmark_weights_are_the_papers_for_each_part_of_the_face():
    parts = {"contour": (0, 2), "chin": (8, 2), "brow": (20, 1), "bridge": (28, 5), "nostril": (33, 5),
             "corner": (36, 5), "lid": (37, 15), "lower lid": (46, 15), "other corner": (45, 5), "mouth": (51, 5),
             "inner rim": (66, 10)}
    ratio = landmark.WEIGHTS / landmark.WEIGHTS[20]
    for part, (index, expected) in parts.items():
        assert ratio[index] == pytest.approx(expected), part
    assert (ratio > 14).sum() == 8 and ratio.shape == (68,)
    assert landmark.WEIGHTS.mean() == pytest.approx(1.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 2.0))
def test_contour_slides_only_where_it_is_hidden(seed, cap):
    """Against a transcription, point by point."""
    rng = np.random.default_rng(seed)
    points, truth = rng.normal(size=(2, 17, 2)).astype(np.float32)
    lines, visible = rng.normal(size=(17, 5, 2)).astype(np.float32), rng.random(17) < 0.5
    expected = [euclidean(points[i], truth[i]) if visible[i] else
                min(min(euclidean(point, truth[i]) for point in lines[i]), cap) for i in range(17)]
    found = landmark.contour_distance(points, lines, truth, visible, cap)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    pull = jax.grad(lambda lines: landmark.contour_distance(points, lines, truth, visible, cap).sum())(lines)
    assert not np.any(np.asarray(pull)[visible])


def test_landmark_distances_are_scipys(rng):
    predicted, truth = rng.normal(size=(2, 3, 68, 2)).astype(np.float32)
    expected = [[euclidean(a, b) for a, b in zip(*faces, strict=True)] for faces in zip(predicted, truth, strict=True)]
    np.testing.assert_allclose(landmark.distance(predicted, truth), expected, rtol=1e-5)
    np.testing.assert_allclose(landmark.squared_distance(predicted, truth), np.square(expected), rtol=1e-5)


def test_map_samples_are_scipys_bilinear_values(rng):
    maps = rng.uniform(size=(2, 5, 7)).astype(np.float32)
    points = rng.uniform(-0.2, 1.2, (2, 40, 2)).astype(np.float32)
    rows, columns = points[..., 1] * 5 - 0.5, points[..., 0] * 7 - 0.5
    expected = [map_coordinates(one, [r, c], order=1, mode="nearest")
                for one, r, c in zip(maps, rows, columns, strict=True)]
    np.testing.assert_allclose(landmark.sample(maps, points), expected, atol=1e-5)
    assert float(landmark.sample(maps, np.array([[[2.5 / 7, 3.5 / 5]]] * 2))[1, 0]) == pytest.approx(maps[1, 3, 2])


def test_map_samples_are_differentiable(rng):
    maps = jnp.asarray(rng.uniform(size=(1, 4, 4)), jnp.float32)
    points = jnp.array([[[0.33, 0.41], [0.7, 0.55]]])  # off the pixel centres, where the slope jumps
    check_grads(landmark.sample, (maps, points), 1, modes=["rev"], atol=1e-2, rtol=1e-2, eps=1e-3)


# ---------------------------------------------------------------------------------------------------- images

def test_colour_distances_are_numpys(rng):
    a, b = rng.uniform(size=(2, 2, 5, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(image.colour_distance(a, b), np.linalg.norm(a - b, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(image.absolute_distance(a, b), np.abs(a - b).mean(-1), rtol=1e-5)


def test_image_mean_is_over_each_images_own_mask(rng):
    values = rng.uniform(size=(3, 4, 4)).astype(np.float32)
    mask = rng.uniform(0.2, 1, (3, 4, 4)).astype(np.float32)
    mask[1] = 0
    means = image.masked_image_mean(values, mask)
    np.testing.assert_allclose(means[::2], [np.average(values[i], weights=mask[i]) for i in (0, 2)], rtol=1e-5)
    assert means[1] == 0
    mask[0] = 0
    mask[0, 0, 0] = 0.25  # a quarter of a pixel
    assert float(image.masked_image_mean(values, mask)[0]) == pytest.approx(0.25 * values[0, 0, 0])


@pytest.mark.parametrize(("term", "shape"), [
    (landmark.distance, (68, 2)), (landmark.squared_distance, (68, 2)), (image.colour_distance, (4, 4, 3)),
    (image.absolute_distance, (4, 4, 3)), (perceptual.cosine_distance, (8,)), (perceptual.mean_squared, (8,)),
    (pose.chordal_squared, (3, 3))])
def test_every_distance_is_differentiable_and_finite_where_both_are_equal(rng, term, shape):
    a, b = (jnp.asarray(x, jnp.float32) for x in rng.normal(size=(2, 2, *shape)))
    check_grads(lambda a: term(a, b).sum(), (a,), 1, modes=["rev"], atol=2e-2, rtol=2e-2, eps=1e-3)
    at_equality = jax.grad(lambda a: term(a, b).sum())(b)
    chex.assert_tree_all_finite(at_equality)
    np.testing.assert_allclose(at_equality, 0.0, atol=1e-6)
    chex.assert_tree_all_finite(jax.grad(lambda a: term(a, jnp.zeros_like(a)).sum())(jnp.zeros_like(b)))


# ----------------------------------------------------------------------------------------------- confidences

def test_aleatoric_is_the_likelihood_of_a_laplacian(rng):
    error, sure = rng.exponential(size=50), rng.uniform(0.01, 1, 50)
    expected = -stats.laplace(scale=0.3 / sure).logpdf(error) - np.log(2 * 0.3)
    np.testing.assert_allclose(confidence.aleatoric(error, sure, 0.3), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("error", [0.01, 0.1, 0.4])
def test_the_best_confidence_is_the_tolerance_over_the_error(error):
    found = minimize_scalar(lambda sure: float(confidence.aleatoric(jnp.float32(error), jnp.float32(sure), 0.1)),
                            bounds=(1e-3, 1), method="bounded", options={"xatol": 1e-4}).x
    assert found == pytest.approx(min(1.0, 0.1 / error), abs=2e-2)


# ---------------------------------------------------------------------------------------- features and poses

def test_feature_distances_are_scipys(rng):
    a, b = rng.normal(size=(2, 4, 16)).astype(np.float32)
    np.testing.assert_allclose(perceptual.cosine_distance(3 * a, b), [cosine(*x) for x in zip(a, b, strict=True)],
                               atol=1e-5)
    np.testing.assert_allclose(perceptual.mean_squared(a, b), np.square(a - b).mean(1), rtol=1e-5)
    assert perceptual.cosine_distance(a[0], 0 * a[0]) == 1


def test_chordal_distance_is_a_function_of_scipys_angle():
    first, second = Rotation.random(20, rng=0), Rotation.random(20, rng=1)
    angle = (first.inv() * second).magnitude()
    squared = pose.chordal_squared(first.as_matrix().astype(np.float32), second.as_matrix().astype(np.float32))
    np.testing.assert_allclose(squared, 4 - 4 * np.cos(angle), atol=1e-5)
    np.testing.assert_allclose(squared, 8 * np.sin(angle / 2) ** 2, atol=1e-5)


# ------------------------------------------------------------------------------------------- running moments

def _moments(batches, decay):
    """Running moments after every batch, and the state."""
    running, seen = distribution.first_moments(batches.shape[-1]), []
    for codes in batches:
        moments, running = distribution.running_moments(*distribution.batch_moments(codes), running, decay)
        seen.append(moments)
    return seen, running


def test_running_moments_are_those_of_all_codes_seen_weighed_by_age(rng):
    batches = rng.normal(1.0, 2.0, (5, 6, 3)).astype(np.float32)
    weights = np.repeat(0.8 ** np.arange(4, -1, -1.0), 6)
    mean, variance = _moments(batches, 0.8)[0][-1]
    every = batches.reshape(30, 3)
    np.testing.assert_allclose(mean, np.average(every, axis=0, weights=weights), rtol=1e-4)
    np.testing.assert_allclose(variance, np.diag(np.cov(every.T, aweights=weights, ddof=0)), rtol=1e-4)


def test_the_first_batch_and_no_decay_are_the_batchs_own_moments(rng):
    batches = rng.normal(3.0, 2.0, (3, 8, 2)).astype(np.float32)
    for decay, step in ((0.9, 0), (0.0, 2)):
        codes, (mean, variance) = batches[step], _moments(batches, decay)[0][step]
        np.testing.assert_allclose(mean, codes.mean(0), rtol=1e-4)
        np.testing.assert_allclose(variance, codes.var(0), rtol=1e-3)


def test_gradients_flow_through_this_batchs_share_only(rng):
    batches = jnp.asarray(rng.normal(size=(4, 6, 3)), jnp.float32)

    def last_mean(batches):
        return _moments(batches, 0.8)[0][-1][0].sum()

    gradient = jax.grad(last_mean)(batches)
    assert np.all(np.asarray(gradient[:3]) == 0)
    share = (1 - 0.8) / (1 - 0.8**4)
    np.testing.assert_allclose(gradient[3], share / 6, rtol=1e-5)
    state = jax.grad(lambda b: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(_moments(b, 0.8)[1])))(batches)
    assert np.all(np.asarray(state) == 0)


def test_running_moments_of_a_standing_distribution_have_less_divergence_than_one_small_batch():
    batches = np.random.default_rng(1).normal(size=(60, 8, 16)).astype(np.float32)
    seen, _ = _moments(batches, 0.95)
    assert float(distribution.moments_kl(*seen[-1])) < 0.2 * float(distribution.moments_kl(*seen[0]))
