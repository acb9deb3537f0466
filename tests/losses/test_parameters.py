"""The weighted parameter distance against a projection that is carried out, and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfm_jax.losses import parameters

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(2, 20, 3))
COLUMNS = RNG.normal(size=(4, 20, 3))
TURN = Rotation.from_rotvec(RNG.normal(size=(2, 3))).as_matrix()
SCALE = np.array([0.5, 2.0])


def project(points, turn, scale):
    """[B, N, 2]: x right, y up."""
    return scale[:, None, None] * np.einsum("brk,bnk->bnr", turn, points)[..., :2]


def moved(a, b):
    return np.sqrt(np.mean(np.sum((a - b) ** 2, -1), -1))


def test_effects_of_linear_parameters_are_what_the_projection_does():
    effects = parameters.projection_effects(jnp.asarray(COLUMNS), jnp.asarray(TURN), jnp.asarray(SCALE))
    before = project(POINTS, TURN, SCALE)
    for k, column in enumerate(COLUMNS):
        np.testing.assert_allclose(effects[:, k], moved(project(POINTS + column, TURN, SCALE), before), rtol=1e-5)


def test_effects_of_a_turn_are_what_the_projection_does():
    posed = np.einsum("brk,bnk->bnr", TURN, POINTS)
    eye = np.broadcast_to(np.eye(3), TURN.shape)
    effects = parameters.projection_effects(parameters.rotation_columns(jnp.asarray(posed)), eye, jnp.asarray(SCALE))
    for axis in range(3):
        little = Rotation.from_rotvec(1e-5 * np.eye(3)[axis]).as_matrix()
        difference = moved(project(POINTS, little @ TURN, SCALE), project(POINTS, TURN, SCALE)) / 1e-5
        np.testing.assert_allclose(effects[:, axis], difference, rtol=1e-4)


def test_distance_by_hand():
    difference, effect = np.array([[0.5, -2.0, 0.0]]), np.array([[8.0, 1.0, 100.0]])
    # Reaches 4, 2, 0: weights 1, 1/2, 0.
    found = parameters.weighted_parameter_distance(jnp.asarray(difference), jnp.asarray(effect))
    np.testing.assert_allclose(found, [1 * 0.25 + 0.5 * 4.0])


def test_no_difference_is_no_loss_and_no_gradient():
    def loss(difference):
        return jnp.sum(parameters.weighted_parameter_distance(difference, jnp.ones((1, 3))))

    value, gradient = jax.value_and_grad(loss)(jnp.zeros((1, 3)))
    assert float(value) == 0 and not np.asarray(gradient).any()


def test_gradient_is_that_of_fixed_weights():
    """Finite differences with the weights of the middle."""
    difference, effect = RNG.normal(size=(3, 5)), RNG.uniform(0.5, 2, size=(3, 5))
    reach = np.abs(difference) * effect
    weights = reach / reach.max(1, keepdims=True)
    gradient = jax.grad(lambda d: jnp.sum(parameters.weighted_parameter_distance(d, jnp.asarray(effect))))(
        jnp.asarray(difference))
    step = 1e-4
    for i, j in np.ndindex(*difference.shape):
        nudge = np.zeros_like(difference)
        nudge[i, j] = step
        slope = np.sum(weights * ((difference + nudge) ** 2 - (difference - nudge) ** 2)) / (2 * step)
        assert float(gradient[i, j]) == pytest.approx(slope, rel=1e-3, abs=1e-4)


def test_scale_and_shift_are_those_of_numpy():
    picture = RNG.normal(size=(2, 20, 2))
    scale, shift = parameters.fit_scale_and_shift(jnp.asarray(POINTS[..., :2]), jnp.asarray(picture))
    for i in range(2):
        system = np.zeros((40, 3))
        system[:20, 0], system[20:, 0] = POINTS[i, :, 0], POINTS[i, :, 1]
        system[:20, 1], system[20:, 2] = 1, 1
        expected = np.linalg.lstsq(system, picture[i].T.ravel())[0]
        np.testing.assert_allclose([scale[i], *shift[i]], expected, rtol=1e-4, atol=1e-5)


def test_nothing_that_moves_and_points_in_one_place_have_finite_gradients():
    turn, scale = jnp.eye(3)[None], jnp.ones(1)
    gradient = jax.grad(lambda columns: parameters.projection_effects(columns, turn, scale).sum())(jnp.zeros((2, 5, 3)))
    np.testing.assert_array_equal(gradient, 0)
    points, picture = jnp.ones((1, 4, 2)), jnp.full((1, 4, 2), 3.0)
    scale, shift = parameters.fit_scale_and_shift(points, picture)
    np.testing.assert_allclose(scale, 0)
    np.testing.assert_allclose(shift, [[3, 3]])
    assert np.isfinite(jax.grad(lambda points: parameters.fit_scale_and_shift(points, picture)[1].sum())(points)).all()
