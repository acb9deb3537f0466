"""Rotations: matrices inside, 6D for networks, degrees (yaw, pitch, roll) for people, axis-angle for small steps.

Right-handed axes: x to the image's right, y up, z towards the viewer. A frontal face looks along +z. Positive yaw
(about y) turns it towards +x, positive pitch (about x) makes it look down, positive roll (about z) tilts its top
towards -x. All functions take leading batch dimensions and have finite gradients everywhere, the identity and
gimbal lock included.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray, Rotation
from sfm_jax.geometry.products import matmul
from sfm_jax.geometry.vector import cross, normalise, safe_norm


def rotation_from_6d(six: Float[AnyArray, "*batch 6"]) -> Float[Array, "*batch 3 3"]:
    """[..., 6] -> [..., 3, 3]: the first two columns, orthonormalised (Zhou et al., CVPR 2019, equation 15).

    Continuous and onto, hence the parametrisation for networks. Parallel or zero columns have no direction: they
    give a finite, arbitrary matrix.
    """
    first = normalise(six[..., :3])
    second = normalise(six[..., 3:] - jnp.sum(first * six[..., 3:], -1, keepdims=True) * first)
    return jnp.stack([first, second, cross(first, second)], -1)


def rotation_to_6d(rotation: Rotation) -> Float[Array, "*batch 6"]:
    """[..., 3, 3] -> [..., 6]: the first two columns, so that `rotation_from_6d` inverts it."""
    return jnp.concatenate([rotation[..., 0], rotation[..., 1]], -1)


def rotation_from_euler(degrees: Float[AnyArray, "*batch 3"]) -> Float[Array, "*batch 3 3"]:
    """Degrees [..., 3] (yaw, pitch, roll) -> [..., 3, 3] = R_y(yaw) R_x(pitch) R_z(roll)."""
    angles = jnp.deg2rad(degrees)
    (cy, cp, cr), (sy, sp, sr) = (jnp.moveaxis(f(angles), -1, 0) for f in (jnp.cos, jnp.sin))
    rows = [
        [cy * cr + sy * sp * sr, sy * sp * cr - cy * sr, sy * cp],
        [cp * sr, cp * cr, -sp],
        [cy * sp * sr - sy * cr, sy * sr + cy * sp * cr, cy * cp],
    ]
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def rotation_to_euler(rotation: Rotation) -> Float[Array, "*batch 3"]:
    """[..., 3, 3] -> degrees [..., 3] (yaw, pitch, roll), pitch within +-90.

    At gimbal lock (pitch = +-90) only yaw -+ roll is defined: roll is 0 there and its gradient is zero.
    """
    sine = -rotation[..., 1, 2]
    cosine = safe_norm(rotation[..., 1, :2])
    locked = cosine < 1e-6
    pitch = jnp.arctan2(sine, cosine)
    yaw = jnp.where(
        locked,
        _arctan2(-rotation[..., 2, 0], rotation[..., 0, 0], ~locked),
        _arctan2(rotation[..., 0, 2], rotation[..., 2, 2], locked),
    )
    roll = jnp.where(locked, 0.0, _arctan2(rotation[..., 1, 0], rotation[..., 1, 1], locked))
    return jnp.rad2deg(jnp.stack([yaw, pitch, roll], -1))


def rotation_from_axis_angle(vector: Float[AnyArray, "*batch 3"]) -> Float[Array, "*batch 3 3"]:
    """[..., 3] (axis times radians) -> [..., 3, 3]: Rodrigues' formula, by its Taylor series near zero."""
    squared = jnp.sum(vector**2, -1)
    small = squared < 1e-4
    angle = jnp.sqrt(jnp.where(small, 1.0, squared))
    first = jnp.where(small, 1 - squared / 6 + squared**2 / 120, jnp.sin(angle) / angle)
    second = jnp.where(small, 0.5 - squared / 24 + squared**2 / 720, (1 - jnp.cos(angle)) / angle**2)
    outer = vector[..., :, None] * vector[..., None, :]
    eye = jnp.eye(3, dtype=vector.dtype)
    tangent = eye * squared[..., None, None] - outer
    return eye + first[..., None, None] * _skew(vector) - second[..., None, None] * tangent


def rotation_to_axis_angle(rotation: Rotation) -> Float[Array, "*batch 3"]:
    """[..., 3, 3] -> [..., 3], angle in [0, pi]; at pi one of the two opposite axes.

    By way of the quaternion whose largest component divides, which is accurate at every angle.
    """
    quaternion = _quaternion(rotation)
    quaternion = jnp.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    real, imaginary = quaternion[..., 0], quaternion[..., 1:]
    squared = jnp.sum(imaginary**2, -1)
    small = squared < 1e-8
    length = jnp.sqrt(jnp.where(small, 1.0, squared))
    ratio = jnp.where(small, 2.0 / jnp.where(small, real, 1.0), 2.0 * jnp.arctan2(length, real) / length)
    return ratio[..., None] * imaginary


def rotation_angle(first: Rotation, second: Rotation) -> Float[Array, "*batch"]:
    """Degrees [...] in [0, 180] between two rotations [..., 3, 3]; the gradient at equality is zero, not NaN."""
    relative = matmul(first, jnp.swapaxes(second, -1, -2))
    return jnp.rad2deg(safe_norm(rotation_to_axis_angle(relative)))


def _quaternion(rotation):
    """Unit (w, x, y, z) [..., 4]: of the four equivalent forms, the one with the largest divisor (Shepperd 1978)."""
    r = [[rotation[..., i, j] for j in range(3)] for i in range(3)]
    products = [  # 4 q q^T, row by row
        [1 + r[0][0] + r[1][1] + r[2][2], r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1]],
        [r[2][1] - r[1][2], 1 + r[0][0] - r[1][1] - r[2][2], r[0][1] + r[1][0], r[0][2] + r[2][0]],
        [r[0][2] - r[2][0], r[0][1] + r[1][0], 1 - r[0][0] + r[1][1] - r[2][2], r[1][2] + r[2][1]],
        [r[1][0] - r[0][1], r[0][2] + r[2][0], r[1][2] + r[2][1], 1 - r[0][0] - r[1][1] + r[2][2]],
    ]
    products = jnp.stack([jnp.stack(row, -1) for row in products], -2)
    largest = jnp.argmax(jnp.diagonal(products, axis1=-2, axis2=-1), -1)
    return normalise(jnp.take_along_axis(products, largest[..., None, None], -2)[..., 0, :])


def _skew(vector):
    x, y, z = jnp.moveaxis(vector, -1, 0)
    zero = jnp.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def _arctan2(y, x, unused):
    """arctan2 whose arguments are replaced where the result is not used, so that no NaN gradient leaks."""
    return jnp.arctan2(jnp.where(unused, 0.0, y), jnp.where(unused, 1.0, x))
