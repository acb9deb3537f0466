"""Visibility by windows: 2 x 2 candidate pixels for every small triangle, fragments for the few large ones.

A face in an image has triangles of about one pixel; the fixed window needs no prefix sum over all of them, only
parallel arithmetic and one scatter. On a GPU it is a tenth slower than fragments (docs/speed.md). The design is ours.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sfm_jax.array_types import AnyArray, Triangles
from sfm_jax.render.caps import Caps
from sfm_jax.render.coverage import Box, bounding_boxes, corners, cover, nearest
from sfm_jax.render.fragments import box_fragments, pixel_number

SIDE = 2


def window(
    points: Float[AnyArray, "V 3"], triangles: Triangles, image_size: tuple[int, int], caps: Caps, cull: bool
) -> tuple[Int[Array, " P"], Float[Array, " P"], dict[str, Int[Array, ""]]]:
    """ids, depths [H*W] and the number of list entries needed. See `sfm_jax.render.visibility`."""
    height, width = image_size
    x, y, z = corners(points, triangles)
    box = bounding_boxes(x, y, image_size, cull)
    small = (box.width <= SIDE) & (box.height <= SIDE)
    face = jnp.arange(len(triangles), dtype=jnp.int32)
    candidates = []
    for down in range(SIDE):
        for across in range(SIDE):
            column, row = box.left + across, box.top + down
            inside, depth = cover(x, y, z, column, row)
            inside &= small & (column <= box.right) & (row <= box.bottom)
            pixel = jnp.where(inside, pixel_number(column, row, image_size), height * width)
            candidates.append((pixel, depth, face))
    rest = Box(box.left, box.top, jnp.where(small, box.left - 1, box.right), box.bottom)
    *large, demand = box_fragments(points, triangles, rest, image_size, caps.large)
    pixel, depth, identity = (jnp.concatenate(parts) for parts in zip(*candidates, large, strict=True))
    ids, depths = nearest(pixel, depth, identity, height * width)
    return ids, depths, {"large": demand}
