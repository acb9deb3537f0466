"""Vectors [..., n] with gradients that stay finite at zero."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray, Points


def safe_norm(vector: Float[AnyArray, "*batch n"]) -> Float[Array, "*batch"]:
    """Euclidean length [...] of [..., n]; the gradient of a zero vector is zero."""
    squared = jnp.sum(vector**2, -1)
    zero = squared == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squared)))


def normalise(vector: Float[AnyArray, "*batch n"]) -> Float[Array, "*batch n"]:
    """vector / |vector|; a zero vector stays zero, with zero gradient."""
    squared = jnp.sum(vector**2, -1, keepdims=True)
    zero = squared == 0
    return jnp.where(zero, 0.0, vector * jax.lax.rsqrt(jnp.where(zero, 1.0, squared)))


def cross(a: Points, b: Points) -> Float[Array, "*batch 3"]:
    """Cross product of [..., 3] and [..., 3], written out: jnp.cross compiles to slower gathers."""
    (ax, ay, az), (bx, by, bz) = (jnp.moveaxis(v, -1, 0) for v in (a, b))
    return jnp.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -1)
