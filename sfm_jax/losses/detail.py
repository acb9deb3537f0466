"""The losses of learned detail: a displacement map, and the dense surface that it makes of a coarse one.

All after Chen et al., "Self-Supervised Learning of Detailed 3D Face Reconstruction" (TIP 2020, arXiv 1910.11791) and
its code: D is `capped_square`, S_t is `roughness` with a dead zone t. Where that leaves a choice (what is averaged, and
the form of the dead zone) it is ours, and said.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from sfm_jax.array_types import AnyArray, Number
from sfm_jax.geometry.vector import safe_norm
from sfm_jax.losses.laplacian import mean_laplacian
from sfm_jax.losses.masks import masked_mean

CAP = 10.0


def capped_square(values: Float[AnyArray, "..."], mask: Shaped[AnyArray, "..."], cap: Number = CAP) -> Float[Array, ""]:
    """D: mean of min(x^2, cap) over a mask that broadcasts to values [...]; beyond the cap nothing pulls."""
    known = jnp.where(jnp.asarray(mask, values.dtype) > 0, values, 0.0)
    return masked_mean(jnp.minimum(known**2, cap), mask)


def roughness(
    values: Float[AnyArray, "N C"], neighbours: Int[np.ndarray, "N n"], dead_zone: Number
) -> Float[Array, ""]:
    """S_t: mean over N places of max(0, |values - mean of their neighbours| - t), in the unit of values [N, C].

    neighbours [N, n], each row padded by the place itself (geometry/adjacency.py). What is as smooth as t is not
    smoothed further. The length over the channels, less the dead zone, is ours.
    """
    return jnp.mean(jnp.maximum(safe_norm(mean_laplacian(values, neighbours)) - dead_zone, 0.0))


def normal_distance(
    normals: Float[AnyArray, "H W 3"], true: Float[AnyArray, "H W 3"], mask: Shaped[AnyArray, "H W"]
) -> Float[Array, ""]:
    """Mean distance of unit normals [H, W, 3] from the true ones, about their angle in radians.

    Over a mask [H, W], where the true ones are known, that is, not 0; 0 where none is. Ours: for photos made from a
    known surface.
    """
    known = jax.lax.stop_gradient(jnp.sum(true**2, -1) > 0.5).astype(jnp.float32)
    return masked_mean(safe_norm(normals - true), jnp.asarray(mask, known.dtype) * known)


def map_roughness(displacement: Float[AnyArray, "H W"], mask: Shaped[AnyArray, "H W"]) -> Float[Array, ""]:
    """Sum over both axes and both diagonals of the mean squared difference of neighbouring texels, of a map [H, W].

    Only pairs of texels that are both in the mask [H, W] count.
    """
    height, width = displacement.shape
    total = jnp.zeros(())
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        first = np.s_[:height - down, max(-right, 0):width - max(right, 0)]
        second = np.s_[down:, max(right, 0):width - max(-right, 0)]
        total += masked_mean((displacement[first] - displacement[second]) ** 2, mask[first] * mask[second])
    return total
