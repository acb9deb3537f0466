"""The perceptual loss: how features of a render differ from those of the photo. What makes them is the caller's."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray
from sfm_jax.geometry.vector import normalise


def cosine_distance(a: Float[AnyArray, "*batch F"], b: Float[AnyArray, "*batch F"]) -> Float[Array, "*batch"]:
    """1 - cos of the angle between features [..., F], [...] in [0, 2] (Deng et al. 2019); 1 where one is zero."""
    return 1.0 - jnp.sum(normalise(a) * normalise(b), -1)


def mean_squared(a: Float[AnyArray, "*batch F"], b: Float[AnyArray, "*batch F"]) -> Float[Array, "*batch"]:
    """Mean squared difference [...] of features [..., F] (Chen et al., TIP 2020)."""
    return jnp.mean((a - b) ** 2, -1)
