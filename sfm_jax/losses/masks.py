"""Means over what is labelled."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from sfm_jax.array_types import AnyArray, Numbers


def masked_mean(
    values: Float[AnyArray, "..."], mask: Shaped[AnyArray, "..."], weights: Numbers = 1.0
) -> Float[Array, ""]:
    """sum(mask * weights * values) / sum(mask * weights) of values [...]; mask and weights broadcast to them.

    Where nothing is labelled the mean is 0 and so is its gradient. Values under a mask of 0 never count, not even NaN;
    but what such a value was made from gets a gradient of NaN: replace what is not known before the loss.
    Of several devices each takes the mean of its own samples, and the objective is the mean of those: a labelled
    sample counts more where its device has few.
    """
    share = jnp.broadcast_to(jnp.asarray(mask, values.dtype) * weights, values.shape)
    total = jnp.sum(share)
    return jnp.sum(share * jnp.where(share > 0, values, 0.0)) / jnp.where(total > 0, total, 1.0)
