"""The photometric loss: how a render differs from a photo."""

import jax
import jax.numpy as jnp


def colour_distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """L2 norm over colours [..., H, W] of images [..., H, W, 3], in the unit of the colours."""
    return jnp.sqrt(jnp.sum((a - b) ** 2, -1) + 1e-8)


def masked_image_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Sum of mask * values over mask's own, [...], of [..., H, W]; 0 where the mask is empty (after Deep3D)."""
    return jnp.sum(mask * values, (-1, -2)) / jnp.maximum(jnp.sum(mask, (-1, -2)), 1.0)
