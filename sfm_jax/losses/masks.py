"""Means over what is labelled."""

import jax
import jax.numpy as jnp


def masked_mean(values: jax.Array, mask: jax.Array, weights: jax.Array | float = 1.0) -> jax.Array:
    """Mean of values [...] weighed with mask * weights (each broadcast to [...]); 0, with no gradient, where none is."""
    share = jnp.broadcast_to(mask * weights, values.shape)
    return jnp.sum(share * values) / jnp.maximum(jnp.sum(share), 1e-6)
