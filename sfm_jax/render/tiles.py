"""Visibility by tiles: sort the triangles into 16 x 16 pixel tiles, then compare all of a tile's triangles densely.

No scatter into the image at all, only a sort and a dense maximum: the way for TPUs, whose scatters are serial.
Triangles that touch more than 2 x 2 tiles are listed apart and tested in every tile. The design is ours.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sfm_jax.array_types import AnyArray, Triangles
from sfm_jax.render.caps import Caps
from sfm_jax.render.coverage import FAR, NONE, bounding_boxes, corners, cover, take

SIDE = 16
_EMPTY = 2**31 - 1


def tiles(
    points: Float[AnyArray, "V 3"], triangles: Triangles, image_size: tuple[int, int], caps: Caps, cull: bool
) -> tuple[Int[Array, " P"], Float[Array, " P"], dict[str, Int[Array, ""]]]:
    """ids, depths [H*W] and the number of list entries needed. See `sfm_jax.render.visibility`."""
    height, width = image_size
    across, down = -(-width // SIDE), -(-height // SIDE)
    if len(triangles) * (across * down + 1) >= 2**31:
        raise ValueError(f"image_size: {image_size} with {len(triangles)} triangles: too many for the tiles backend")
    x, y, z = corners(points, triangles)
    box = bounding_boxes(x, y, image_size, cull)
    # One row for all that a tile looks up of a triangle: TPUs gather one row after the other.
    table = jnp.stack([*x, *y, *z, *box], -1)
    face, listed, large, demand = _tile_lists(box, across, down, caps)
    pixel = jnp.arange(SIDE * SIDE)

    def tile(inputs):
        index, own, own_listed = inputs
        own, own_listed = jnp.concatenate([own, large[0]]), jnp.concatenate([own_listed, large[1]])
        column = (index % across * SIDE + pixel % SIDE)[:, None].astype(jnp.float32)
        row = (index // across * SIDE + pixel // SIDE)[:, None].astype(jnp.float32)
        values = jnp.unstack(take(table, own), axis=-1)
        inside, depth = cover(values[:3], values[3:6], values[6:9], column, row)
        left, top, right, bottom = values[9:]
        within = (column >= left) & (column <= right) & (row >= top) & (row <= bottom)
        depth = jnp.where(inside & within & own_listed, depth, FAR)
        depth = jax.lax.optimization_barrier(depth)
        best = jnp.max(depth, 1)
        return jnp.min(jnp.where((depth == best[:, None]) & (depth > FAR), own, NONE), 1), best

    ids, depths = jax.lax.map(tile, (jnp.arange(across * down), face, listed))

    def image(a):
        blocks = a.reshape(down, across, SIDE, SIDE).transpose(0, 2, 1, 3)
        return blocks.reshape(down * SIDE, across * SIDE)[:height, :width].reshape(-1)

    return image(ids), image(depths), demand


def _tile_lists(box, across, down, caps):
    """Triangles [tiles, caps.tile] of each tile with a mask, (triangles, mask) [caps.tile_large], and the demand."""
    count = len(box.left)
    left, right = (jnp.floor(a / SIDE).astype(jnp.int32) for a in (box.left, box.right))
    top, bottom = (jnp.floor(a / SIDE).astype(jnp.int32) for a in (box.top, box.bottom))
    drawn = (box.right >= box.left) & (box.bottom >= box.top)
    wide = drawn & ((right - left > 1) | (bottom - top > 1))
    face = jnp.arange(count, dtype=jnp.int32)
    keys = []
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        touched = drawn & ~wide & (column <= right) & (row <= bottom)
        keys.append(jnp.where(touched, (row * across + column) * count + face, _EMPTY))
    keys = jnp.sort(jnp.concatenate(keys))
    bounds = jnp.searchsorted(keys, jnp.arange(across * down + 1, dtype=jnp.int32) * count).astype(jnp.int32)
    slots = bounds[:-1, None] + jnp.arange(caps.tile, dtype=jnp.int32)
    listed = slots < bounds[1:, None]
    members = jnp.where(listed, take(keys, jnp.minimum(slots, len(keys) - 1)) % count, 0)
    large = jnp.nonzero(wide, size=caps.tile_large, fill_value=count)[0].astype(jnp.int32)
    demand = {"tile": jnp.max(bounds[1:] - bounds[:-1]), "tile_large": jnp.sum(wide.astype(jnp.int32))}
    return members, listed, (jnp.minimum(large, count - 1), large < count), demand
