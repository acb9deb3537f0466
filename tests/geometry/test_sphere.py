import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from sfm_jax.geometry import sphere


def unit_pairs(seed, dimension, count=64):
    a, b = jax.random.split(jax.random.key(seed))
    return sphere.sample_uniform(a, (count, dimension)), sphere.sample_uniform(b, (count, dimension))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), dimension=st.sampled_from([2, 3, 64]))
def test_exponential_inverts_logarithm(seed, dimension):
    a, b = unit_pairs(seed, dimension)
    tangent = sphere.logarithm(a, b)
    np.testing.assert_allclose(sphere.exponential(a, tangent), b, atol=2e-5)
    angle = np.arccos(np.clip(np.sum(a * b, -1), -1, 1))
    np.testing.assert_allclose(jnp.linalg.norm(tangent, axis=-1), angle, atol=2e-3)
    np.testing.assert_allclose(jnp.sum(tangent * a, -1), 0.0, atol=1e-5)


def test_slerp_is_shoemakes_closed_form():
    a, b = unit_pairs(3, 5)
    theta = np.arccos(np.sum(np.asarray(a, np.float64) * b, -1, keepdims=True))
    expected = (np.sin(0.7 * theta) * a + np.sin(0.3 * theta) * b) / np.sin(theta)
    np.testing.assert_allclose(sphere.slerp(a, b, 0.3), expected, atol=1e-5)


@pytest.mark.parametrize(("batch", "steps"), [((), (8,)), ((8,), (8,)), ((3,), (5, 1)), ((3,), ())])
def test_slerp_at_many_fractions_is_that_of_each(batch, steps):
    a, b = (points[:np.prod(batch, dtype=int)].reshape(*batch, 8) for points in unit_pairs(3, 8))
    t = np.random.default_rng(0).random(steps).astype(np.float32)
    found = sphere.slerp(a, b, t)
    chex.assert_shape(found, (*np.broadcast_shapes(batch, steps), 8))
    t, a, b = (np.broadcast_to(each, shape) for each, shape in
               ((t, found.shape[:-1]), (a, found.shape), (b, found.shape)))
    angles = np.arccos(np.clip(np.sum(a * b, -1), -1, 1))
    np.testing.assert_allclose(sphere.angle(a, found), angles * t, atol=1e-3)
    np.testing.assert_allclose(sphere.angle(b, found), angles * (1 - t), atol=1e-3)


@pytest.mark.parametrize("dimension", [2, 3, 64, 512])
def test_the_logarithm_of_the_antipode_is_zero(dimension):
    a = sphere.sample_uniform(jax.random.key(0), (1000, dimension))
    assert not np.any(sphere.logarithm(a, -a))
    np.testing.assert_allclose(sphere.slerp(a, -a, 1.0), a, atol=1e-6)
    aside = sphere.exponential(a, (np.pi - 1e-3) * sphere.normalise(sphere.logarithm(a, jnp.roll(a, 1, 0))))
    np.testing.assert_allclose(jnp.linalg.norm(sphere.logarithm(a, aside), axis=-1), np.pi - 1e-3, atol=1e-4)


def test_angle_is_exact_where_arccos_is_not():
    a = jnp.array([1.0, 0.0, 0.0])
    b = jnp.array([jnp.cos(1e-4), jnp.sin(1e-4), 0.0])
    assert sphere.angle(a, b) == pytest.approx(1e-4, rel=1e-3)
    assert sphere.angle(a, -a) == pytest.approx(np.pi, rel=1e-6)


def test_gradients_are_finite_where_functions_have_corners():
    a = jnp.array([1.0, 0.0, 0.0])
    for function in (lambda x: sphere.normalise(x).sum(), lambda x: sphere.angle(a, x),
                     lambda x: sphere.logarithm(a, x).sum(), lambda x: sphere.exponential(a, x).sum()):
        for point in (jnp.zeros(3), a, -a):
            assert np.isfinite(np.asarray(jax.grad(function)(point))).all()


def test_normalise_gradient_is_the_tangent_projection():
    v = jnp.array([0.3, -2.0, 1.5])
    z, r = v / jnp.linalg.norm(v), jnp.linalg.norm(v)
    np.testing.assert_allclose(jax.jacobian(sphere.normalise)(v), (jnp.eye(3) - jnp.outer(z, z)) / r, atol=1e-6)


def test_uniform_samples_have_the_exact_law_of_one_coordinate():
    samples = np.asarray(sphere.sample_uniform(jax.random.key(0), (4000, 8)))
    # On S^(d-1), (x_1 + 1) / 2 follows Beta((d-1)/2, (d-1)/2).
    assert stats.kstest((samples[:, 0] + 1) / 2, stats.beta(3.5, 3.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("dimension", "concentration"), [(3, 5.0), (64, 50.0)])
def test_von_mises_fisher_has_the_mean_resultant_length_of_theory(dimension, concentration):
    mean = sphere.normalise(jnp.arange(1.0, dimension + 1))
    samples = sphere.sample_von_mises_fisher(jax.random.key(1), mean, concentration, 4000)
    chex.assert_shape(samples, (4000, dimension))
    half = dimension / 2
    expected = special.ive(half, concentration) / special.ive(half - 1, concentration)
    cosine = np.asarray(samples @ mean)
    assert cosine.mean() == pytest.approx(expected, abs=4 * cosine.std() / np.sqrt(4000))
    np.testing.assert_allclose(np.linalg.norm(samples, axis=1), 1.0, atol=1e-5)


def test_von_mises_fisher_of_a_circle_and_of_no_sphere():
    mean = jnp.array([0.6, 0.8])
    near = sphere.sample_von_mises_fisher(jax.random.key(0), mean, 1e8, 20_000)
    assert np.isfinite(near).all() and float((near @ mean).min()) > 1 - 1e-5
    with pytest.raises(ValueError, match=r"mean: found shape \(1,\), expected \[d\] with d > 1"):
        sphere.sample_von_mises_fisher(jax.random.key(0), jnp.ones(1), 1.0, 3)
