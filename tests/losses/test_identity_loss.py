import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from sfm_jax.losses import identity

ANGLES = np.linspace(0.01, np.pi - 0.01, 200)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_sphereface_margin_is_the_papers_piecewise_function(m):
    # SphereFace, Liu et al. 2017, eq. 7: psi = (-1)^k cos(m theta) - 2k on [k pi/m, (k+1) pi/m]
    k = np.floor(ANGLES * m / np.pi)
    expected = (-1.0) ** k * np.cos(m * ANGLES) - 2 * k
    np.testing.assert_allclose(identity.angular_margin(jnp.cos(ANGLES), m1=float(m)), expected, atol=5e-3)


def test_arcface_and_cosface_margins():
    inside = ANGLES[ANGLES + 0.5 < np.pi - 0.05]
    np.testing.assert_allclose(identity.angular_margin(jnp.cos(inside), m2=0.5), np.cos(inside + 0.5), atol=1e-3)
    np.testing.assert_allclose(identity.angular_margin(jnp.cos(ANGLES), m3=0.35), np.cos(ANGLES) - 0.35, atol=1e-6)


@pytest.mark.parametrize("margins", [{}, {"m1": 4.0}, {"m2": 0.5}, {"m3": 0.35}, {"m1": 1.35, "m2": 0.3, "m3": 0.2}])
def test_every_margin_falls_strictly_with_the_angle_and_never_helps(margins):
    logits = np.asarray(identity.angular_margin(jnp.cos(ANGLES), **margins))
    assert (np.diff(logits) < 0).all()
    assert (logits <= np.cos(ANGLES) + 1e-6).all()


def test_without_margin_it_is_softmax_cross_entropy():
    rng = np.random.default_rng(0)
    cosine, labels = rng.uniform(-1, 1, (5, 7)).astype(np.float32), np.array([0, 3, 6, 2, 2])
    scaled = 10.0 * cosine.astype(np.float64)
    expected = np.log(np.exp(scaled).sum(1)) - scaled[np.arange(5), labels]
    np.testing.assert_allclose(identity.margin_cross_entropy(cosine, labels, scale=10.0), expected, rtol=1e-5)


def test_unknown_person_costs_nothing_and_has_no_gradient():
    cosine = jnp.array([[0.1, 0.4], [0.3, -0.2]])
    labels = jnp.array([-1, 1])
    loss, gradient = jax.value_and_grad(lambda c: identity.margin_cross_entropy(c, labels, m3=0.2).sum())(cosine)
    assert np.all(np.asarray(gradient[0]) == 0) and loss > 0 and np.all(np.asarray(gradient[1]) != 0)


@pytest.mark.parametrize("margins", [{"m1": 2.0}, {"m2": 0.4}, {"m3": 0.2}, {"m1": 1.2, "m2": 0.2, "m3": 0.1}])
def test_gradients_match_finite_differences(margins):
    rng = np.random.default_rng(1)
    cosine = jnp.asarray(rng.uniform(-0.6, 0.6, (3, 4)), jnp.float32)
    labels = jnp.array([0, 2, 3])
    check_grads(lambda c: identity.margin_cross_entropy(c, labels, scale=4.0, **margins).sum(), (cosine,), 1,
                modes=["rev"], atol=2e-2, rtol=2e-2, eps=1e-2)


def test_logits_are_cosines_whatever_the_lengths():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(4, 6)).astype(np.float32), rng.normal(size=(5, 6)).astype(np.float32)
    expected = (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    logits = identity.cosine_logits(3.0 * a, 0.1 * b)
    chex.assert_shape(logits, (4, 5))
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", (jnp.bfloat16, jnp.float16))
def test_gradients_are_finite_in_half_precision(dtype):
    cosine = jnp.array([1.0, 0.9999, 0.3, -1.0], dtype)
    gradient = jax.vmap(jax.grad(lambda value: identity.angular_margin(value, m2=0.5)))(cosine)
    assert gradient.dtype == dtype and np.isfinite(np.asarray(gradient, np.float32)).all()
