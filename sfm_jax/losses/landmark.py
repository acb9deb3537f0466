"""The landmark loss: where the 68 points of iBUG's order should be in the picture."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from sfm_jax.array_types import AnyArray, Number
from sfm_jax.geometry.products import einsum
from sfm_jax.geometry.vector import safe_norm


def _relative_weights():
    weights = np.ones(68, np.float32)  # brows, 17-26
    weights[:17] = 2  # contour
    weights[27:36] = 5  # nose
    weights[36:48] = 5  # corners of the eyes
    weights[[37, 38, 40, 41, 43, 44, 46, 47]] = 15  # eyelids
    weights[48:60] = 5  # mouth
    weights[60:] = 10  # and its inner rim
    return weights / weights.mean()


WEIGHTS = _relative_weights()
"""How much each point counts [68], 1 on average. After Chen et al. (TIP 2020, arXiv 1910.11791); that the higher of
their two weights of the mouth belongs to the inner rim is ours."""


def distance(predicted: Float[AnyArray, "*#batch 2"], truth: Float[AnyArray, "*#batch 2"]) -> Float[Array, "*batch"]:
    """Euclidean distance [..., 68] of points [..., 68, 2], with a zero gradient where they meet."""
    return safe_norm(predicted - truth)


def squared_distance(
    predicted: Float[AnyArray, "*batch 2"], truth: Float[AnyArray, "*batch 2"]
) -> Float[Array, "*batch"]:
    """Squared Euclidean distance [..., 68] of points [..., 68, 2]: gross errors count more (Deng et al. 2019)."""
    return jnp.sum((predicted - truth) ** 2, -1)


def contour_distance(
    points: Float[AnyArray, "*batch N 2"], lines: Float[AnyArray, "*batch N L 2"], truth: Float[AnyArray, "*batch N 2"],
    visible: Shaped[AnyArray, "*batch N"], cap: Number,
) -> Float[Array, "*batch N"]:
    """Distance [..., N] of the true points [..., N, 2] of a contour, which slide over the face as it turns.

    Where a point is visible [..., N] (0 or 1), to the projected point [..., N, 2]; where it is hidden, to the nearest
    of the projected points on its line [..., N, L, 2], but no more than `cap`. After Chen et al. (TIP 2020).
    """
    own = distance(points, truth)
    nearest = jnp.min(distance(lines, truth[..., None, :]), -1)
    return jnp.where(jnp.asarray(visible, bool), own, jnp.minimum(nearest, cap))


def sample(maps: Float[AnyArray, "B h w"], points: Float[AnyArray, "B N 2"]) -> Float[Array, "B N"]:
    """Bilinear values [B, N] of maps [B, h, w] at points [B, N, 2], shares of the width and height in [0, 1].

    The centre of the first pixel is at half a pixel; beyond the outermost centres the border's value holds. As two
    products with hat functions, whose gradients are products too: the maps are small, and scattering is slow.
    """
    height, width = maps.shape[1:]
    across, down = _hats(points[..., 0], width), _hats(points[..., 1], height)
    return einsum("bnh,bhw,bnw->bn", down, maps, across)


def _hats(share, size):
    """Weights [..., size] of the pixels along one axis at a share [...] of it; they sum to 1."""
    place = jnp.clip(share * size - 0.5, 0.0, size - 1.0)
    return jnp.maximum(1.0 - jnp.abs(place[..., None] - jnp.arange(size, dtype=place.dtype)), 0.0)
