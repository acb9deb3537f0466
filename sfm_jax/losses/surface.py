"""Losses on surfaces in correspondence, in millimetres."""

import jax
import jax.numpy as jnp


def vertex_distance(prediction: jax.Array, truth: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted mean Euclidean distance [...] in mm of vertices [..., V, 3]; weights [V] sum to one."""
    squared = jnp.sum((prediction - truth) ** 2, axis=-1)
    # sqrt has no gradient at 0; 1e-6 mm^2 rounds off distances below a micrometre.
    return jnp.sum(weights * jnp.sqrt(squared + 1e-6), axis=-1)


def vertex_squared_distance(prediction: jax.Array, truth: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted mean squared Euclidean distance [...] in mm^2 of vertices [..., V, 3]; weights [V] sum to one."""
    return jnp.sum(weights * jnp.sum((prediction - truth) ** 2, axis=-1), axis=-1)
