"""The distance between parameters, each as important as what it does to the picture."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray
from sfm_jax.geometry.products import einsum
from sfm_jax.geometry.vector import safe_norm


def weighted_parameter_distance(
    difference: Float[AnyArray, "*batch P"], effect: Float[AnyArray, "*batch P"]
) -> Float[Array, "*batch"]:
    """sum w_i d_i^2 [...] of parameter differences d [..., P], w_i = |d_i| e_i over the largest of them.

    The weighted parameter distance cost of Zhu et al., "Face Alignment Across Large Poses" (CVPR 2016), equation 8:
    what moves the projected vertices most is learned first. effect e [..., P]: how far vertices move for a unit of
    each parameter (see `projection_effects`). Weights have no gradient.
    """
    reach = jax.lax.stop_gradient(jnp.abs(difference) * effect)
    largest = jnp.max(reach, -1, keepdims=True)
    return jnp.sum(reach / jnp.where(largest > 0, largest, 1.0) * difference**2, -1)


def projection_effects(
    columns: Float[AnyArray, "*batch P N 3"], rotation: Float[AnyArray, "B 3 3"], scale: Float[AnyArray, " B"]
) -> Float[Array, "B P"]:
    """Root mean square of how far points move in the picture [B, P] px for a unit of parameters that move them by
    columns [P, N, 3] or [B, P, N, 3] mm, under rotations [B, 3, 3] and scales [B] px per mm."""
    columns = jnp.broadcast_to(columns, (len(rotation), *columns.shape[-3:]))
    seen = einsum("brk,bpnk->bpnr", rotation[:, :2], columns)
    flat = seen.reshape(*seen.shape[:2], 2 * seen.shape[2])
    return scale[:, None] * safe_norm(flat) / seen.shape[2]**0.5


def rotation_columns(points: Float[AnyArray, "B N 3"]) -> Float[Array, "B 3 N 3"]:
    """How points [B, N, 3], in camera axes, move when they turn about x, y and z: [B, 3, N, 3] per radian."""
    return jnp.cross(jnp.eye(3)[:, None], points[:, None])


def fit_scale_and_shift(
    points: Float[AnyArray, "B N 2"], picture: Float[AnyArray, "B N 2"]
) -> tuple[Float[Array, " B"], Float[Array, "B 2"]]:
    """The scale [B] and shift [B, 2] of the least-squares weak perspective: picture [B, N, 2] = shift + scale * points
    [B, N, 2]; both x right, y down. Of points in one place: a scale of 0."""
    centre, middle = jnp.mean(points, 1), jnp.mean(picture, 1)
    moved = points - centre[:, None]
    spread = jnp.sum(moved**2, (1, 2))
    scale = jnp.sum(moved * (picture - middle[:, None]), (1, 2)) / jnp.where(spread > 0, spread, 1.0)
    return scale, middle - scale[:, None] * centre
