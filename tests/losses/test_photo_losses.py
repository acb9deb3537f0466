"""The losses of learning from photos, against NumPy, SciPy, closed forms and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from sfm_jax.losses import distribution, image, landmark, pose
from sfm_jax.losses.masks import masked_mean

RNG = np.random.default_rng(0)


def draw(*shape):
    return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


def test_masked_mean_is_numpys_average():
    values, mask, weights = draw(4, 68), jnp.asarray(RNG.integers(0, 2, (4, 68)), jnp.float32), landmark.WEIGHTS
    truth = np.average(np.asarray(values), weights=np.asarray(mask) * weights)
    assert float(masked_mean(values, mask, weights)) == pytest.approx(truth, abs=1e-5)


def test_nothing_labelled_costs_nothing():
    value, gradient = jax.value_and_grad(lambda v: masked_mean(v**2, jnp.zeros(5)))(draw(5))
    assert value == 0 and not np.any(gradient)


def test_masked_values_have_no_influence():
    mask = jnp.array([1.0, 0.0, 1.0])
    gradient = jax.grad(lambda v: masked_mean(v**2, mask))(draw(3))
    assert gradient[1] == 0 and gradient[0] != 0


def test_landmark_distance_and_its_gradient_where_points_meet():
    a, b = draw(2, 68, 2), draw(2, 68, 2)
    np.testing.assert_allclose(landmark.distance(a, b), np.linalg.norm(a - b, axis=-1), rtol=1e-5)
    assert np.isfinite(jax.grad(lambda p: landmark.distance(p, a).sum())(a)).all()
    check_grads(lambda p: landmark.distance(p, b).sum(), (a,), order=1, modes=["rev"], rtol=2e-2)


def test_landmark_weights():
    assert landmark.WEIGHTS.mean() == pytest.approx(1)
    assert landmark.WEIGHTS[37] / landmark.WEIGHTS[20] == pytest.approx(15)  # eyelid against brow


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_map_samples_are_scipys(seed):
    rng = np.random.default_rng(seed)
    maps, points = rng.random((2, 5, 7)).astype(np.float32), rng.uniform(-0.1, 1.1, (2, 9, 2)).astype(np.float32)
    ours = landmark.sample(jnp.asarray(maps), jnp.asarray(points))
    for k in range(2):
        place = [points[k, :, 1] * 5 - 0.5, points[k, :, 0] * 7 - 0.5]
        np.testing.assert_allclose(ours[k], map_coordinates(maps[k], place, order=1, mode="nearest"), atol=1e-5)


def test_colour_distance_and_mask():
    a, b = draw(2, 4, 5, 3), draw(2, 4, 5, 3)
    mask = jnp.asarray(RNG.random((2, 4, 5)) > 0.4, jnp.float32).at[1].set(0)
    error = np.linalg.norm(a - b, axis=-1)
    np.testing.assert_allclose(image.colour_distance(a, b), error, rtol=1e-4)
    means = image.masked_image_mean(jnp.asarray(error), mask)
    assert float(means[0]) == pytest.approx(error[0][np.asarray(mask[0]) > 0].mean(), rel=1e-5)
    assert means[1] == 0
    check_grads(lambda x: image.colour_distance(x, b).sum(), (a,), order=1, modes=["rev"], rtol=2e-2)


def test_chordal_distance_is_the_angles():
    a, b = Rotation.random(20, random_state=1), Rotation.random(20, random_state=2)
    truth = 4 - 4 * np.cos((a * b.inv()).magnitude())
    ours = pose.chordal_squared(jnp.asarray(a.as_matrix()), jnp.asarray(b.as_matrix()))
    np.testing.assert_allclose(ours, truth, atol=1e-5)


def test_running_moments_of_one_batch_are_its_own():
    mean, variance = draw(6), jnp.abs(draw(6)) + 0.1
    (m, v), _ = distribution.running_moments(mean, variance, distribution.first_moments(6), 0.9)
    np.testing.assert_allclose(m, mean, rtol=1e-5)
    np.testing.assert_allclose(v, variance, rtol=1e-4)


def test_running_moments_are_the_weighted_moments_of_all_batches():
    decay, running, batches = 0.8, distribution.first_moments(3), RNG.standard_normal((7, 50, 3)) * 2 + 1
    for batch in batches:
        moments, running = distribution.running_moments(
            jnp.asarray(batch.mean(0), jnp.float32), jnp.asarray(batch.var(0), jnp.float32), running, decay)
    weights = np.repeat(decay ** np.arange(6, -1, -1), 50)
    rows = batches.reshape(-1, 3)
    mean = np.average(rows, axis=0, weights=weights)
    np.testing.assert_allclose(moments[0], mean, rtol=1e-4)
    np.testing.assert_allclose(moments[1], np.average((rows - mean) ** 2, axis=0, weights=weights), rtol=1e-4)


def test_gradients_of_running_moments_are_this_batchs_share():
    _, running = distribution.running_moments(jnp.ones(2), jnp.ones(2), distribution.first_moments(2), 0.9)

    def mean_of(batch_mean):
        (mean, _), _ = distribution.running_moments(batch_mean, jnp.ones(2), running, 0.9)
        return mean.sum()

    share = 0.1 / (0.9 * 0.1 + 0.1)
    np.testing.assert_allclose(jax.grad(mean_of)(jnp.zeros(2)), share, rtol=1e-5)
