"""The photometric loss: how a render differs from a photo."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from sfm_jax.array_types import AnyArray
from sfm_jax.geometry.vector import safe_norm


def colour_distance(a: Float[AnyArray, "*batch C"], b: Float[AnyArray, "*batch C"]) -> Float[Array, "*batch"]:
    """L2 norm over the channels, [..., H, W] of images [..., H, W, 3], in the colours' unit; no gradient at 0.

    Not squared (Deng et al. 2019): a beard or a shadow, which no render explains, shall not outweigh the rest.
    """
    return safe_norm(a - b)


def absolute_distance(a: Float[AnyArray, "*batch C"], b: Float[AnyArray, "*batch C"]) -> Float[Array, "*batch"]:
    """Mean absolute difference of the channels, [..., H, W] of images [..., H, W, 3], in the colours' unit."""
    difference = a - b
    return jnp.mean(difference * jnp.sign(difference), -1)  # the gradient of jnp.abs at 0 is 1


def masked_image_mean(
    values: Float[AnyArray, "*batch H W"], mask: Shaped[AnyArray, "*batch H W"]
) -> Float[Array, "*batch"]:
    """sum(mask * values) / sum(mask) of each image, [...] of [..., H, W] (Deng et al. 2019, Deep3D).

    A mask of less than one pixel in all counts as one pixel, so that a sliver of a face says little, an empty mask 0.
    Values under a mask of 0 never count, not even NaN.
    """
    mask = jnp.asarray(mask, values.dtype)
    return jnp.sum(mask * jnp.where(mask > 0, values, 0.0), (-1, -2)) / jnp.maximum(jnp.sum(mask, (-1, -2)), 1.0)
