"""Deferred, differentiable interpolation: barycentric weights from the visible triangle's corners, pixel by pixel."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Integer

from sfm_jax.array_types import AnyArray, Triangles
from sfm_jax.render.coverage import take


def interpolate(
    values: Float[AnyArray, "V C"], points: Float[AnyArray, "V 3"], triangles: Triangles, ids: Int[AnyArray, "H W"],
    perspective: bool = False,
) -> tuple[Float[Array, "H W C"], Float[Array, "H W 3"]]:
    """Vertex values at every pixel, differentiable in `values` and in the vertices' image points.

    Args:
      values: [V, C] anything that is linear on the surface.
      points: [V, 3] (x px, y px, nearness).
      triangles: [F, 3].
      ids: [H, W] the visible triangle, -1 for none.
      perspective: nearness is proportional to 1 / distance: weight by it (Heckbert & Moreton 1991).

    Returns:
      [H, W, C] (zero on the background) and the weights [H, W, 3], by which other corner values may be blended.
    """
    height, width = ids.shape
    ids = ids.reshape(-1)
    visible = ids >= 0
    corner = take(jnp.asarray(triangles), jnp.maximum(ids, 0))
    used = 3 if perspective else 2
    # One table, hence one gather and one scatter per corner in the two passes.
    table = jnp.concatenate([points[:, :used], values], 1)
    rows = [corner_rows(table, corner[:, k], visible) for k in range(3)]
    weights = _barycentrics([row[:, 0] for row in rows], [row[:, 1] for row in rows], visible, width)
    if perspective:
        weights = _perspective_correct(weights, [row[:, 2] for row in rows])
    blended = sum(weight[:, None] * row[:, used:] for weight, row in zip(weights, rows, strict=True))
    return blended.reshape(height, width, -1), jnp.stack(weights, -1).reshape(height, width, 3)


def blend(
    values: Float[AnyArray, "N C"], triangles: Triangles, ids: Int[AnyArray, "H W"], weights: Float[Array, "H W 3"]
) -> Float[Array, "H W C"]:
    """Corner values [N, C] of triangles [F, 3] into that list, by the weights [H, W, 3] of `interpolate`: [H, W, C].

    For values with triangles of their own (UV) and for a second pass over the same image.
    """
    corner = take(jnp.asarray(triangles), jnp.maximum(ids, 0).reshape(-1))
    visible = (ids >= 0).reshape(-1)
    flat = weights.reshape(-1, 3)
    total = sum(flat[:, k, None] * corner_rows(values, corner[:, k], visible) for k in range(3))
    return total.reshape(*ids.shape, -1)


@jax.custom_jvp
def corner_rows(
    table: Float[AnyArray, "V C"], index: Integer[AnyArray, " P"], used: Bool[AnyArray, " P"]
) -> Float[Array, "P C"]:
    """table[index] for table [V, C] and index [P]; 0, and without gradient, where not `used` [P].

    Hence the background costs nothing in the backward pass, which scatters only what is used.
    """
    return jnp.where(used[:, None], take(table, index), 0)


@corner_rows.defjvp
def _corner_rows_jvp(primals, tangents):
    table, index, used = primals
    index_or_none = jnp.where(used, index, table.shape[0])
    return corner_rows(*primals), tangents[0].at[index_or_none].get(mode="fill", fill_value=0)


def _barycentrics(x, y, visible, width):
    """Weights (three arrays [P]) of corners x, y (three arrays [P]) at pixel centres; zero where not visible."""
    pixel = jnp.arange(len(visible), dtype=jnp.int32)
    dx = [a - ((pixel % width).astype(jnp.float32) + 0.5) for a in x]
    dy = [a - ((pixel // width).astype(jnp.float32) + 0.5) for a in y]
    products = [dx[i] * dy[j] - dx[j] * dy[i] for i, j in ((1, 2), (2, 0), (0, 1))]
    area = products[0] + products[1] + products[2]
    usable = visible & (area != 0)
    inverse = jnp.where(usable, 1 / jnp.where(usable, area, 1.0), 0.0)
    return [product * inverse for product in products]


def _perspective_correct(weights, nearness):
    """w_k n_k / sum_j w_j n_j, where any weight is not zero."""
    scaled = [weight * near for weight, near in zip(weights, nearness, strict=True)]
    total = scaled[0] + scaled[1] + scaled[2]
    seen = total > 0
    inverse = jnp.where(seen, 1 / jnp.where(seen, total, 1.0), 0.0)
    return [part * inverse for part in scaled]
