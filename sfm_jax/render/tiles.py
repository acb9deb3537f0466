"""Visibility by tiles: sort the triangles into 16 x 16 pixel tiles, then compare a tile's triangles densely, in blocks.

No scatter into the image at all, only a sort, looked-up rows and dense maxima: the way for TPUs, whose scatters are
serial. A tile has as many blocks as it needs, so that what is compared grows with the triangles, not with the fullest
tile. Triangles that touch more than 2 x 2 tiles are listed apart and tested in every tile. The design is ours.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sfm_jax.array_types import AnyArray, Triangles
from sfm_jax.render.caps import BLOCK, TILE, Caps
from sfm_jax.render.coverage import FAR, NONE, bounding_boxes, corners, cover, take
from sfm_jax.render.fragments import expand

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
    keys, wide = _sorted_keys(box, across, count)

    bounds = jnp.searchsorted(keys, jnp.append(every, len(every)) * count).astype(jnp.int32)
    blocks = -(-(bounds[1:] - bounds[:-1]) // BLOCK)
    capacity = max(caps.tile_blocks, 1)
    tile, step, used, (start,), demand = expand(blocks, capacity, bounds[:-1])
    padded = jnp.pad(keys, (0, BLOCK), constant_values=_EMPTY)
    members = jax.vmap(lambda first: jax.lax.dynamic_slice(padded, (first,), (BLOCK,)))(start + step * BLOCK)
    listed = used[:, None] & (members // count == tile[:, None])

    def block(best, inputs):
        tile, step, face, listed = inputs
        ids, depths = best
        best = jnp.where(step == 0, NONE, ids), jnp.where(step == 0, FAR, depths)
        best = _nearer(best, _nearest(table, face, listed, tile, across))
        return best, best

    none = jnp.full(TILE * TILE, NONE, jnp.int32), jnp.full(TILE * TILE, FAR)
    _, after = jax.lax.scan(block, none, (tile, step, members % count, listed))
    last = jnp.clip(jnp.cumsum(blocks) - 1, 0, capacity - 1)
    found = (blocks > 0) & (take(tile, last) == every)
    best = tuple(jnp.where(found[:, None], take(values, last), empty)
                 for values, empty in zip(after, none, strict=True))
    if caps.tile_large:
        large = jnp.nonzero(wide, size=caps.tile_large, fill_value=count)[0].astype(jnp.int32)
        face, listed = jnp.minimum(large, count - 1), large < count
        best = _nearer(best, jax.lax.map(lambda tile: _nearest(table, face, listed, tile, across), every))

    def image(a):
        squares = a.reshape(down, across, TILE, TILE).transpose(0, 2, 1, 3)
        return squares.reshape(down * TILE, across * TILE)[:height, :width].reshape(-1)

    return *map(image, best), {"tile_blocks": demand, "tile_large": jnp.sum(wide.astype(jnp.int32))}


def _sorted_keys(box, across, count):
    """tile * count + triangle, sorted, of every tile that a triangle touches, at most 2 x 2 (_EMPTY: none); and which
    triangles touch more."""
    left, right = (jnp.floor(a / TILE).astype(jnp.int32) for a in (box.left, box.right))
    top, bottom = (jnp.floor(a / TILE).astype(jnp.int32) for a in (box.top, box.bottom))
    drawn = (box.right >= box.left) & (box.bottom >= box.top)
    wide = drawn & ((right - left > 1) | (bottom - top > 1))
    face = jnp.arange(count, dtype=jnp.int32)
    keys = []
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        touched = drawn & ~wide & (column <= right) & (row <= bottom)
        keys.append(jnp.where(touched, (row * across + column) * count + face, _EMPTY))
    return jnp.sort(jnp.concatenate(keys)), wide


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


def _nearer(one, other):
    """Of two (ids, depths) the nearer at each pixel, of equally near ones the smaller id."""
    (ids, depths), (other_ids, other_depths) = one, other
    takes = (other_depths > depths) | ((other_depths == depths) & (other_ids < ids))
    return jnp.where(takes, other_ids, ids), jnp.where(takes, other_depths, depths)
