"""Losses on surfaces in correspondence, in millimetres."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray, Vertices


def vertex_distance(prediction: Vertices, truth: Vertices, weights: Float[AnyArray, " V"]) -> Float[Array, "*batch"]:
    """Weighted mean Euclidean distance [...] in mm of vertices [..., V, 3]; weights [V] sum to one."""
    squared = jnp.sum((prediction - truth) ** 2, axis=-1)
    # sqrt has no gradient at 0; 1e-6 mm^2 rounds off distances below a micrometre.
    return jnp.sum(weights * jnp.sqrt(squared + 1e-6), axis=-1)


def vertex_squared_distance(
    prediction: Vertices, truth: Vertices, weights: Float[AnyArray, " V"]
) -> Float[Array, "*batch"]:
    """Weighted mean squared Euclidean distance [...] in mm^2 of vertices [..., V, 3]; weights [V] sum to one."""
    return jnp.sum(weights * jnp.sum((prediction - truth) ** 2, axis=-1), axis=-1)
