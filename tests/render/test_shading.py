import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import sph_harm_y

from sfm_jax.render.shading import PointLight, SphericalHarmonics, ambient, harmonics

RNG = np.random.default_rng(0)
NORMALS = RNG.normal(size=(20, 3))
NORMALS /= np.linalg.norm(NORMALS, axis=1, keepdims=True)
# The order of the coefficients: degree and order of the real spherical harmonics (z is the polar axis).
ORDER = [(0, 0), (1, 0), (1, 1), (1, -1), (2, 0), (2, 1), (2, -1), (2, 2), (2, -2)]


def real_harmonic(degree, order, directions):
    polar, azimuth = np.arccos(directions[:, 2]), np.arctan2(directions[:, 1], directions[:, 0])
    value = sph_harm_y(degree, abs(order), polar, azimuth) * (-1) ** order
    return {0: value.real}.get(order, np.sqrt(2) * (value.real if order > 0 else value.imag))


def test_harmonics_are_the_irradiance_integral():
    """Each column is the integral of the environment Y_lm times max(n.w, 0) over the sphere (2e5 points, a lattice)."""
    count = 200_000
    z = 1 - (2 * np.arange(count) + 1) / count
    turn = np.pi * (1 + np.sqrt(5)) * np.arange(count)
    sphere = np.stack([np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn), z], 1)
    cosine = np.maximum(NORMALS @ sphere.T, 0)
    found = np.asarray(harmonics(jnp.asarray(NORMALS, jnp.float32)))
    for column, (degree, order) in enumerate(ORDER):
        expected = cosine @ real_harmonic(degree, order, sphere) * 4 * np.pi / count
        np.testing.assert_allclose(found[:, column], expected, atol=1e-4)


def test_ambient_light_shows_the_albedo():
    albedo = RNG.random((20, 3)).astype(np.float32)
    colour = ambient(0.5)(albedo, jnp.asarray(NORMALS, jnp.float32), None, None)
    np.testing.assert_allclose(colour, 0.5 * albedo, rtol=1e-5)


def test_light_is_a_linear_map_per_channel():
    light = SphericalHarmonics(jnp.asarray(RNG.normal(size=(9, 3)), jnp.float32))
    colour = light(jnp.ones((20, 3)), jnp.asarray(NORMALS, jnp.float32), None, None)
    expected = np.asarray(harmonics(NORMALS)) @ np.asarray(light.coefficients)
    np.testing.assert_allclose(colour, expected, rtol=1e-4, atol=1e-5)


def test_phong_in_closed_form():
    """A plane at z = 0 seen from above; light at 45 degrees, so it mirrors at 45 degrees."""
    lamp = PointLight(position=jnp.array([0.0, 1.0, 1.0]), colour=jnp.array([1.0, 0.5, 0.25]),
                      ambient=jnp.full(3, 0.1), specular=jnp.float32(0.6), shininess=jnp.float32(4.0))
    normal, eye = jnp.array([0.0, 0.0, 1.0]), jnp.array([0.0, 0.0, 1.0])
    colour = lamp(jnp.full(3, 0.5), normal, jnp.zeros(3), eye)
    half = np.sqrt(0.5)
    expected = 0.5 * (0.1 + np.array([1, 0.5, 0.25]) * half) + np.array([1, 0.5, 0.25]) * 0.6 * half**4
    np.testing.assert_allclose(colour, expected, rtol=1e-5)
    np.testing.assert_allclose(lamp(jnp.full(3, 0.5), -normal, jnp.zeros(3), eye), 0.05, rtol=1e-6)


@pytest.mark.parametrize("position", [(0.0, 0.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)])
def test_phong_gradients_are_finite(position):
    def total(lamp, normal):
        return jnp.sum(lamp(jnp.ones(3), normal, jnp.zeros(3), jnp.array([0.0, 0.0, 1.0])))

    lamp = PointLight(jnp.array(position), jnp.ones(3), jnp.zeros(3), jnp.float32(1.0), jnp.float32(3.0))
    for leaf in jax.tree.leaves(jax.grad(total, (0, 1))(lamp, jnp.array([0.0, 0.0, 1.0]))):
        assert np.isfinite(np.asarray(leaf)).all()
