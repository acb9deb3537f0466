"""The distance between rotations as a loss."""

import jax
import jax.numpy as jnp


def chordal_squared(a: jax.Array, b: jax.Array) -> jax.Array:
    """|A - B|^2 (Frobenius) [...] of rotations [..., 3, 3]: 4 - 4 cos(angle), smooth everywhere (Hartley et al. 2013)."""
    return jnp.sum((a - b) ** 2, (-1, -2))
