"""The landmark loss: where the 68 points of iBUG's order should be in the picture."""

import jax
import jax.numpy as jnp
import numpy as np

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


def distance(predicted: jax.Array, truth: jax.Array) -> jax.Array:
    """Euclidean distance [..., 68] of points [..., 68, 2], with a zero gradient where they meet."""
    return safe_norm(predicted - truth)


def squared_distance(predicted: jax.Array, truth: jax.Array) -> jax.Array:
    """Squared Euclidean distance [..., 68] of points [..., 68, 2]: gross errors count more (Deng et al. 2019)."""
    return jnp.sum((predicted - truth) ** 2, -1)


def contour_distance(
    points: jax.Array, lines: jax.Array, truth: jax.Array, visible: jax.Array, cap: float
) -> jax.Array:
    """Distance [..., N] of the true points [..., N, 2] of a contour, which slide over the face as it turns.

    Where a point is visible [..., N] (0 or 1), to the projected point [..., N, 2]; where it is hidden, to the nearest
    of the projected points on its line [..., N, L, 2], but no more than `cap`. After Chen et al. (TIP 2020).
    """
    own = distance(points, truth)
    nearest = jnp.min(distance(lines, truth[..., None, :]), -1)
    return jnp.where(visible > 0, own, jnp.minimum(nearest, cap))


def sample(maps: jax.Array, points: jax.Array) -> jax.Array:
    """Bilinear values [B, N] of maps [B, h, w] at points [B, N, 2], shares of the width and height in [0, 1].

    The centre of the first pixel is at half a pixel; beyond the outermost centres the border's value holds. As two
    products with hat functions, whose gradients are products too: the maps are small, and scattering is slow.
    """
    height, width = maps.shape[1:]
    across, down = _hats(points[..., 0], width), _hats(points[..., 1], height)
    return jnp.einsum("bnh,bhw,bnw->bn", down, maps, across, precision=jax.lax.Precision.HIGHEST)


def _hats(share, size):
    """Weights [..., size] of the pixels along one axis at a share [...] of it; they sum to 1."""
    place = jnp.clip(share * size - 0.5, 0.0, size - 1.0)
    return jnp.maximum(1.0 - jnp.abs(place[..., None] - jnp.arange(size)), 0.0)
