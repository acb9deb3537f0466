import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfm_jax.geometry import rotation as r

RANDOM = Rotation.random(40, rng=np.random.default_rng(0))
MATRICES = RANDOM.as_matrix().astype(np.float32)
TRICKY = np.stack([
    np.eye(3), np.diag([1.0, -1, -1]), np.diag([-1.0, 1, -1]), np.diag([-1.0, -1, 1]),
    *(Rotation.from_euler("yxz", [40, pitch, 0], degrees=True).as_matrix() for pitch in (90, -90, 89.9999)),
    Rotation.from_rotvec([1e-5, 0, 0]).as_matrix(),
]).astype(np.float32)


def test_euler_is_scipys_intrinsic_yaw_pitch_roll():
    degrees = np.random.default_rng(1).uniform([-180, -89, -180], [180, 89, 180], (40, 3))
    expected = Rotation.from_euler("YXZ", degrees, degrees=True).as_matrix()
    found = r.rotation_from_euler(jnp.asarray(degrees, jnp.float32))
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(r.rotation_to_euler(found), degrees, atol=5e-3)


def test_signs_are_those_of_a_face():
    face, top = jnp.array([0.0, 0.0, 1.0]), jnp.array([0.0, 1.0, 0.0])
    assert (r.rotation_from_euler(jnp.array([20.0, 0, 0])) @ face)[0] > 0  # turns to +x
    assert (r.rotation_from_euler(jnp.array([0, 20.0, 0])) @ face)[1] < 0  # looks down
    assert (r.rotation_from_euler(jnp.array([0, 0, 20.0])) @ top)[0] < 0  # tilts to -x


def test_axis_angle_is_scipys():
    vectors = RANDOM.as_rotvec().astype(np.float32)
    np.testing.assert_allclose(r.rotation_from_axis_angle(vectors), RANDOM.as_matrix(), atol=2e-6)
    np.testing.assert_allclose(r.rotation_to_axis_angle(MATRICES), RANDOM.as_rotvec(), atol=3e-4)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3, 9.9e-3, 1.01e-2, 1.0, np.pi - 1e-3, np.pi])
def test_axis_angle_is_accurate_at_every_angle(angle):
    axis = np.array([0.6, -0.48, 0.64])
    expected = Rotation.from_rotvec(angle * axis).as_matrix()
    matrix = r.rotation_from_axis_angle(jnp.asarray(angle * axis, jnp.float32))
    np.testing.assert_allclose(matrix, expected, atol=1e-6)
    back = np.asarray(r.rotation_to_axis_angle(jnp.asarray(expected, jnp.float32)))
    assert min(np.abs(back - angle * axis).max(), np.abs(back + angle * axis).max() if angle > 3.14 else 9) < 1e-5


def test_six_numbers_are_gram_schmidt():
    six = np.random.default_rng(2).normal(size=(30, 6)).astype(np.float32)
    q, upper = np.linalg.qr(six.reshape(-1, 2, 3).transpose(0, 2, 1))
    q = q * np.sign(np.diagonal(upper, axis1=1, axis2=2))[:, None]
    expected = np.concatenate([q, np.cross(q[..., 0], q[..., 1])[..., None]], -1)
    found = r.rotation_from_6d(six)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(np.asarray(found)), 1.0, atol=1e-5)
    np.testing.assert_allclose(r.rotation_from_6d(r.rotation_to_6d(MATRICES)), MATRICES, atol=1e-6)


def test_angle_between_rotations_is_scipys():
    expected = np.rad2deg((RANDOM[:20] * RANDOM[20:].inv()).magnitude())
    np.testing.assert_allclose(r.rotation_angle(MATRICES[:20], MATRICES[20:]), expected, atol=0.02)
    assert r.rotation_angle(MATRICES[0], MATRICES[0]) < 1e-3


@pytest.mark.parametrize("convert,back", [
    (r.rotation_to_euler, r.rotation_from_euler), (r.rotation_to_axis_angle, r.rotation_from_axis_angle),
    (r.rotation_to_6d, r.rotation_from_6d),
])
def test_round_trip_and_gradients_at_identity_half_turns_and_gimbal_lock(convert, back):
    np.testing.assert_allclose(back(convert(TRICKY)), TRICKY, atol=2e-5)
    for function, arguments in ((convert, TRICKY), (back, convert(TRICKY))):
        gradient = np.asarray(jax.grad(lambda a, f=function: jnp.sum(jnp.sin(f(a))))(jnp.asarray(arguments)))
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("back,at", [
    (r.rotation_from_axis_angle, [0.0, 0.0, 0.0]), (r.rotation_from_axis_angle, [0.3, -0.2, 0.5]),
    (r.rotation_from_euler, [30.0, 90.0, 10.0]), (r.rotation_from_6d, [1.0, 0.2, 0.0, 0.1, 1.0, 0.3]),
])
def test_gradients_are_finite_differences(back, at):
    weights = np.random.default_rng(3).normal(size=(3, 3)).astype(np.float32)
    at = np.float32(at)
    gradient = np.asarray(jax.grad(lambda a: jnp.sum(back(a) * weights))(at))
    step = np.float32(1.0 if at.max() > 20 else 0.01)
    nudges = step * np.eye(len(at), dtype=np.float32)
    expected = [np.sum((np.asarray(back(at + n)) - np.asarray(back(at - n))) * weights) / (2 * step) for n in nudges]
    np.testing.assert_allclose(gradient, expected, atol=2e-3 * max(np.abs(expected)))


def test_zero_and_parallel_columns_give_finite_matrices_and_gradients():
    six = jnp.array([[0.0] * 6, [1.0, 0, 0, 2.0, 0, 0], [0, 0, 0, 0, 1.0, 0]])
    gradient = jax.grad(lambda a: jnp.sum(r.rotation_from_6d(a) ** 2 + r.rotation_from_6d(a)))(six)
    assert np.isfinite(np.asarray(gradient)).all() and np.isfinite(np.asarray(r.rotation_from_6d(six))).all()


def test_gradient_of_the_angle_at_equality_is_finite():
    for matrix in TRICKY:
        assert np.isfinite(np.asarray(jax.grad(lambda m, t=matrix: r.rotation_angle(m, t))(jnp.asarray(matrix)))).all()
