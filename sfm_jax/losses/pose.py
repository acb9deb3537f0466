"""The distance between rotations as a loss."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import Rotation


def chordal_squared(a: Rotation, b: Rotation) -> Float[Array, "*batch"]:
    """|A - B|^2 (Frobenius) [...] of rotations [..., 3, 3] (Hartley et al., "Rotation Averaging", IJCV 2013).

    8 sin^2(angle / 2) = 4 - 4 cos(angle): 2 angle^2 for small angles, at most 8, smooth everywhere.
    """
    return jnp.sum((a - b) ** 2, (-1, -2))
