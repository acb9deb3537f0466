"""What every visibility backend shares: the pixels of a triangle, the test of one pixel, the nearest of many.

All arrays are one value per candidate (triangle, pixel) pair, of any shape. Backends differ only in how they list the
candidates; the arithmetic here is the same for each, hence so are the ids.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Integer, Shaped

from sfm_jax.array_types import AnyArray
from sfm_jax.geometry.camera import BEHIND

FAR = -3e38  # below every nearness: the depth of the background
NONE = 2**31 - 1  # above every id
_ROUNDING = 2.4e-7  # two units in the last place: how far rounding moves an edge function, relative to its products
_SLIVER = 1e-3  # and the most that this allowance may be, relative to the triangle's area

Corners = Sequence[Float[AnyArray, "*#pairs"]] | Float[AnyArray, "3 *#pairs"]
"""One coordinate of the three corners of a triangle."""


class Box(NamedTuple):
    """Inclusive ranges of the pixels whose centres lie in each triangle's bounding box, cut to the image; float32."""

    left: Float[Array, "*pairs"]
    top: Float[Array, "*pairs"]
    right: Float[Array, "*pairs"]
    bottom: Float[Array, "*pairs"]

    @property
    def width(self) -> Int[Array, "*pairs"]:
        return jnp.maximum(self.right - self.left + 1, 0).astype(jnp.int32)

    @property
    def height(self) -> Int[Array, "*pairs"]:
        return jnp.maximum(self.bottom - self.top + 1, 0).astype(jnp.int32)


def corners(
    points: Float[AnyArray, "V 3"], triangles: Integer[AnyArray, "*pairs 3"]
) -> tuple[Corners, Corners, Corners]:
    """x, y, nearness of the three corners: nine arrays, grouped (x0, x1, x2), (y0, ...), (z0, ...)."""
    return tuple(tuple(take(points[:, axis], triangles[..., k]) for k in range(3)) for axis in range(3))


def split(rows: Float[AnyArray, "*pairs 3 3"]) -> tuple[Corners, Corners, Corners]:
    """Corner rows [..., 3 corners, 3 axes] as nine arrays, grouped like `corners`."""
    return tuple(tuple(rows[..., k, axis] for k in range(3)) for axis in range(3))


def bounding_boxes(x: Corners, y: Corners, image_size: tuple[int, int], cull: bool) -> Box:
    """Candidate pixels of each triangle; if culled, none for triangles that face away."""
    height, width = image_size
    left, top = (jnp.maximum(jnp.ceil(jnp.minimum(jnp.minimum(a[0], a[1]), a[2]) - 0.5), 0.0) for a in (x, y))
    right = jnp.minimum(jnp.floor(jnp.maximum(jnp.maximum(x[0], x[1]), x[2]) - 0.5), width - 1.0)
    bottom = jnp.minimum(jnp.floor(jnp.maximum(jnp.maximum(y[0], y[1]), y[2]) - 0.5), height - 1.0)
    # NaN compares false: a triangle with a NaN corner is not drawn.
    drawn = (right >= left) & (bottom >= top)
    if cull:
        drawn &= signed_area(x, y) < 0
    sides = ((left, 0.0), (top, 0.0), (right, -1.0), (bottom, -1.0))
    return Box(*(jnp.where(drawn, side, empty) for side, empty in sides))


def signed_area(x: Corners, y: Corners) -> Float[AnyArray, "*pairs"]:
    """Twice the area on the screen: negative for a triangle that faces the viewer, because y points down."""
    return (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])


def cover(
    x: Corners, y: Corners, z: Corners, column: Float[AnyArray, "*#pairs"], row: Float[AnyArray, "*#pairs"]
) -> tuple[Bool[Array, "*pairs"], Float[Array, "*pairs"]]:
    """Is the centre of pixel (column, row) inside the triangle, and at which nearness.

    A centre within rounding of an edge belongs to the triangles on both sides, so that surfaces have no pinholes
    however the compiler fuses the products. Triangles that reach behind the camera are not drawn.
    """
    dx = [a - (column + 0.5) for a in x]
    dy = [a - (row + 0.5) for a in y]
    products = [(dx[1] * dy[2], dx[2] * dy[1]), (dx[2] * dy[0], dx[0] * dy[2]), (dx[0] * dy[1], dx[1] * dy[0])]
    weights = [a - b for a, b in products]
    area = weights[0] + weights[1] + weights[2]
    sign, limit = jnp.sign(area), _SLIVER * jnp.abs(area)
    inside = (area != 0) & (jnp.minimum(jnp.minimum(z[0], z[1]), z[2]) > BEHIND / 2)
    for weight, (product, _) in zip(weights, products, strict=True):
        inside &= weight * sign >= -jnp.minimum(_ROUNDING * jnp.abs(product), limit)
    inverse = 1 / jnp.where(area == 0, 1.0, area)
    return inside, (weights[0] * z[0] + weights[1] * z[1] + weights[2] * z[2]) * inverse


def nearest(
    pixel: Int[Array, "*pairs"], depth: Float[Array, "*pairs"], identity: Int[Array, "*pairs"], pixel_count: int
) -> tuple[Int[Array, " P"], Float[Array, " P"]]:
    """Per pixel the candidate of largest depth, of equals the smallest identity: ids (NONE) and depths (FAR) [P].

    Candidates of pixel `pixel_count` are dropped. Two scatters, because 32 bits cannot hold both keys.
    """
    # Without the barrier the compiler may compute `depth` twice, differently rounded, and the equality below fails.
    pixel, depth = jax.lax.optimization_barrier((pixel, depth))
    # Dropped, not written beside the image: there all that are dropped would queue for one address.
    best = jnp.full(pixel_count, FAR).at[pixel].max(depth, mode="drop")
    winner = jnp.where(depth == take(best, jnp.minimum(pixel, pixel_count - 1)), pixel, pixel_count)
    return jnp.full(pixel_count, NONE, jnp.int32).at[winner].min(identity, mode="drop"), best


def take(array: Shaped[AnyArray, "..."], index: Integer[AnyArray, "..."]) -> Shaped[Array, "..."]:
    """array[index] for indices that are known to be in range: no clamping."""
    return jnp.asarray(array).at[index].get(mode="promise_in_bounds")
