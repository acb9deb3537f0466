"""Visibility by tiles: sort the triangles into 16 x 16 pixel tiles, then compare a tile's triangles densely, in blocks.

No scatter into the image at all, only a sort, looked-up rows and dense maxima: the way for TPUs, whose scatters are
serial. A triangle is listed in every tile that its box touches, and a tile has as many blocks as it needs, so that what
is compared grows with the triangles, not with the fullest tile. The design is ours.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sfm_jax.array_types import AnyArray, Triangles
from sfm_jax.render.caps import BLOCK, TILE, Caps, most_blocks
from sfm_jax.render.coverage import FAR, NONE, bounding_boxes, corners, cover, take
from sfm_jax.render.fragments import expand, scan_order

_EMPTY = 2**31 - 1


def tiles(
    points: Float[AnyArray, "V 3"], triangles: Triangles, image_size: tuple[int, int], caps: Caps, cull: bool
) -> tuple[Int[Array, " P"], Float[Array, " P"], dict[str, Int[Array, ""]]]:
    """ids, depths [H*W] and the number of list entries needed. See `sfm_jax.render.visibility`."""
    height, width = image_size
    across, down = -(-width // TILE), -(-height // TILE)
    count, every = len(triangles), jnp.arange(across * down, dtype=jnp.int32)
    if count * (len(every) + 1) >= 2**31:
        raise ValueError(f"image_size: {image_size} with {count} triangles: too many for the tiles backend")
    x, y, z = corners(points, triangles)
    box = bounding_boxes(x, y, image_size, cull)
    # One row for all that is looked up of a triangle: TPUs gather one row after the other.
    table = jnp.stack([*x, *y, *z, *box], -1)
    keys, pairs = _sorted_keys(box, across, count, max(caps.tile_pairs, 1))

    bounds = jnp.searchsorted(keys, jnp.append(every, len(every)) * count).astype(jnp.int32)
    capacity, blocks = max(caps.tile_blocks, 1), -(-(bounds[1:] - bounds[:-1]) // BLOCK)
    tile, step, used, (start, end), demand = expand(blocks, capacity, bounds[:-1], bounds[1:])
    slots = (start + step * BLOCK)[:, None] + jnp.arange(BLOCK, dtype=jnp.int32)
    members = take(keys, jnp.minimum(slots, len(keys) - 1))
    listed = used[:, None] & (slots < end[:, None])

    def block(best, inputs):
        tile, step, face, listed = inputs
        ids, depths = best
        ids, depths = jnp.where(step == 0, NONE, ids), jnp.where(step == 0, FAR, depths)
        nearest, depth = _nearest(table, face, listed, tile, across)
        # Of equally near ones that of an earlier block has the smaller id.
        best = jnp.where(depth > depths, nearest, ids), jnp.maximum(depth, depths)
        return best, best

    none = jnp.full(TILE * TILE, NONE, jnp.int32), jnp.full(TILE * TILE, FAR)
    _, after = jax.lax.scan(block, none, (tile, step, members % count, listed))
    last = jnp.clip(jnp.cumsum(blocks) - 1, 0, capacity - 1)
    found = (blocks > 0) & (take(tile, last) == every)
    ids, depths = (jnp.where(found[:, None], take(values, last), empty)
                   for values, empty in zip(after, none, strict=True))
    # Of pairs that were cut off nobody knows the tile.
    demand = jnp.where(pairs > len(keys), most_blocks(pairs, len(every)), demand)

    def image(a):
        squares = a.reshape(down, across, TILE, TILE).transpose(0, 2, 1, 3)
        return squares.reshape(down * TILE, across * TILE)[:height, :width].reshape(-1)

    return image(ids), image(depths), {"tile_pairs": pairs, "tile_blocks": demand}


def _sorted_keys(box, across, count, capacity):
    """tile * count + triangle [capacity], sorted, of every tile that a triangle's box touches (_EMPTY: none); how many
    there are."""
    left, right = (jnp.floor(a / TILE).astype(jnp.int32) for a in (box.left, box.right))
    top, bottom = (jnp.floor(a / TILE).astype(jnp.int32) for a in (box.top, box.bottom))
    columns = right - left + 1  # 0 of an empty box
    face, step, listed, (left, top, columns), demand = expand(
        columns * (bottom - top + 1), capacity, left, top, columns)
    column, row = scan_order(step, columns, left, top)
    tile = row.astype(jnp.int32) * across + column.astype(jnp.int32)
    return jnp.sort(jnp.where(listed, tile * count + face, _EMPTY)), demand


def _nearest(
    table: Float[Array, "F 13"], face: Int[Array, " n"], listed: Bool[Array, " n"], tile: Int[Array, ""], across: int
) -> tuple[Int[Array, " p"], Float[Array, " p"]]:
    """Of the listed triangles the nearest at each pixel of a tile, and its depth; NONE and FAR where there is none.

    Pixels are the last axis: there TPUs work on 128 at once, and a maximum over the other one is cheap.
    """
    pixel = jnp.arange(TILE * TILE)
    column = (tile % across * TILE + pixel % TILE).astype(jnp.float32)
    row = (tile // across * TILE + pixel // TILE).astype(jnp.float32)
    values = jnp.unstack(take(table, face)[..., None], axis=1)
    inside, depth = cover(values[:3], values[3:6], values[6:9], column, row)
    left, top, right, bottom = values[9:]
    within = (column >= left) & (column <= right) & (row >= top) & (row <= bottom)
    depth = jnp.where(inside & within & listed[:, None], depth, FAR)
    # Without the barrier the compiler may compute `depth` twice, differently rounded, and the equality below fails.
    depth = jax.lax.optimization_barrier(depth)
    best = jnp.max(depth, 0)
    return jnp.min(jnp.where((depth == best) & (depth > FAR), face[:, None], NONE), 0), best
