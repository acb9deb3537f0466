"""How far what is read from a face lies from what was put into it, one property at a time; weights are the caller's."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray, Rotation
from sfm_jax.losses.pose import chordal_squared


def code_change(a: Float[AnyArray, "*batch d"], b: Float[AnyArray, "*batch d"]) -> Float[Array, "*batch"]:
    """Mean squared difference [...] of codes [..., d]; 0 of codes without components."""
    return jnp.sum((a - b) ** 2, -1) / max(a.shape[-1], 1)


def expression_change(a: Float[AnyArray, "*batch E"], b: Float[AnyArray, "*batch E"]) -> Float[Array, "*batch"]:
    """Squared difference [...] of activations [..., E], summed: one unit says as much among many as among few."""
    return jnp.sum((a - b) ** 2, -1)


def pose_change(
    rotations: tuple[Rotation, Rotation], log_scales: tuple[Float[AnyArray, "*batch"], Float[AnyArray, "*batch"]],
    shifts: tuple[Float[AnyArray, "*batch 2"], Float[AnyArray, "*batch 2"]],
) -> Float[Array, "*batch"]:
    """[...] of rotations [..., 3, 3], log scales [...] and shifts [..., 2] in shares of the crop, two of each.

    Half the squared chordal distance, which is the squared angle of a small turn in radians, and the squares of the
    others, which are as large as it where they move the rim of a face as far.
    """
    (log_scale, other_scale), (shift, other_shift) = log_scales, shifts
    return (chordal_squared(*rotations) / 2 + (log_scale - other_scale) ** 2
            + 4 * jnp.sum((shift - other_shift) ** 2, -1))
