"""Deferred, differentiable interpolation: barycentric weights from the visible triangle's corners, pixel by pixel."""

import jax
import jax.numpy as jnp

from sfm_jax.render.coverage import take


def barycentrics(x: jax.Array, y: jax.Array, column: jax.Array, row: jax.Array, visible: jax.Array) -> jax.Array:
    """Weights [..., 3] of the corners x, y [..., 3] (px) at the pixel centres; zero where not `visible`, never NaN."""
    dx = x - (column + 0.5)[..., None]
    dy = y - (row + 0.5)[..., None]
    after, before = (1, 2, 0), (2, 0, 1)
    products = jnp.stack([dx[..., i] * dy[..., j] - dx[..., j] * dy[..., i] for i, j in zip(after, before)], -1)
    area = jnp.sum(products, -1, keepdims=True)
    usable = visible[..., None] & (area != 0)
    return jnp.where(usable, products / jnp.where(usable, area, 1.0), 0.0)


def perspective_correct(weights: jax.Array, nearness: jax.Array) -> jax.Array:
    """Screen weights [..., 3] to weights on the surface: w_k n_k / sum_j w_j n_j, nearness n [..., 3] ~ 1 / distance.

    Heckbert & Moreton 1991. Pixels of the background (all weights zero) stay zero.
    """
    scaled = weights * nearness
    total = jnp.sum(scaled, -1, keepdims=True)
    seen = total > 0
    return jnp.where(seen, scaled / jnp.where(seen, total, 1.0), 0.0)


def interpolate(
    values: jax.Array, points: jax.Array, triangles: jax.Array, ids: jax.Array, perspective: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Vertex values at every pixel, differentiable in `values` and in the vertices' image points.

    Args:
      values: [V, C] anything that is linear on the surface.
      points: [V, 3] (x px, y px, nearness).
      triangles: [F, 3].
      ids: [H, W] the visible triangle, -1 for none.
      perspective: nearness is proportional to 1 / distance: weight by it.

    Returns:
      [H, W, C] (zero on the background) and the weights [H, W, 3], by which other corner values may be blended.
    """
    height, width = ids.shape
    pixel = jnp.arange(height * width, dtype=jnp.int32)
    visible = ids.reshape(-1) >= 0
    corner = take(triangles, jnp.maximum(ids.reshape(-1), 0))
    # One table, one gather: hence one scatter in the backward pass.
    rows = take(jnp.concatenate([points, values], 1), corner)
    column, row = (pixel % width).astype(jnp.float32), (pixel // width).astype(jnp.float32)
    weights = barycentrics(rows[..., 0], rows[..., 1], column, row, visible)
    if perspective:
        weights = perspective_correct(weights, jnp.where(visible[:, None], rows[..., 2], 1.0))
    blended = jnp.sum(weights[..., None] * rows[..., 3:], 1)
    return blended.reshape(height, width, -1), weights.reshape(height, width, 3)
