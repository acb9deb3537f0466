"""What is read against what was put in: closed forms, and gradients against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from sfm_jax.geometry.rotation import rotation_from_axis_angle, rotation_from_euler
from sfm_jax.losses.cycle import code_change, expression_change, pose_change


def draw(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def test_codes_and_expressions_against_numpy():
    a, b = draw(3, 5), draw(3, 5, seed=1)
    squared = np.square(np.asarray(a, np.float64) - np.asarray(b, np.float64))
    np.testing.assert_allclose(code_change(a, b), squared.mean(-1), rtol=1e-6)
    np.testing.assert_allclose(expression_change(a, b), squared.sum(-1), rtol=1e-6)


def test_codes_of_a_model_without_components_do_not_change():
    """A face model of one colour: the mean over nothing would be no number."""
    empty = np.zeros((3, 0), np.float32)
    np.testing.assert_array_equal(code_change(empty, empty), np.zeros(3))
    np.testing.assert_array_equal(expression_change(empty, empty), np.zeros(3))


@pytest.mark.parametrize("axis", range(3))
def test_a_small_turn_costs_its_squared_angle(axis):
    turn = rotation_from_axis_angle(0.05 * jnp.eye(3)[axis])
    start = rotation_from_euler(jnp.array([40.0, -10.0, 5.0]))
    zero, place = jnp.zeros(()), jnp.zeros(2)
    cost = pose_change((turn @ start, start), (zero, zero), (place, place))
    assert float(cost) == pytest.approx(0.05**2, rel=1e-3)


def test_size_and_place_cost_as_far_as_the_rim_moves():
    """The rim of a face that fills its crop is half a side from the middle, as a turn moves it by half its angle."""
    same = (jnp.eye(3), jnp.eye(3))
    zero, place, moved = jnp.zeros(()), jnp.zeros(2), jnp.array([0.03, 0.04])
    assert float(pose_change(same, (zero, zero + 0.1), (place, place))) == pytest.approx(0.01, rel=1e-5)
    assert float(pose_change(same, (zero, zero), (place, moved))) == pytest.approx((2 * 0.05) ** 2, rel=1e-5)


def test_gradients_against_finite_differences():
    a, b, first, second = draw(2, 4), draw(2, 4, seed=1), draw(2, 3, seed=2), draw(2, 3, seed=3)

    def pose(turn, scale, shift):
        rotations = rotation_from_axis_angle(turn), rotation_from_axis_angle(second)
        return pose_change(rotations, (scale, scale**2), (shift, jnp.zeros_like(shift)))

    for loss, arguments in ((code_change, (a, b)), (expression_change, (a, b)), (pose, (first, a[:, 0], b[:, :2]))):
        check_grads(lambda *args, loss=loss: jnp.sum(loss(*args)), arguments, order=1, modes=["rev"], rtol=2e-2)
