"""Visibility by fragments: every triangle's candidate pixels, one after the other in one list of fixed length.

The list is laid out by a prefix sum over the triangles' pixel counts, so its length is the number of candidates,
whatever the triangles' sizes: the fastest way where scatters are cheap (CPU, GPU). The design is ours.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sfm_jax.array_types import AnyArray, Triangles
from sfm_jax.render.caps import Caps
from sfm_jax.render.coverage import Box, bounding_boxes, corners, cover, nearest, split, take


def fragments(
    points: Float[AnyArray, "V 3"], triangles: Triangles, image_size: tuple[int, int], caps: Caps, cull: bool
) -> tuple[Int[Array, " P"], Float[Array, " P"], dict[str, Int[Array, ""]]]:
    """ids, depths [H*W] and the number of list entries needed. See `sfm_jax.render.visibility`."""
    x, y, _ = corners(points, triangles)
    box = bounding_boxes(x, y, image_size, cull)
    pixel, depth, face, demand = box_fragments(points, triangles, box, image_size, caps.fragments)
    ids, depths = nearest(pixel, depth, face, image_size[0] * image_size[1])
    return ids, depths, {"fragments": demand}


def box_fragments(
    points: Float[AnyArray, "V 3"], triangles: Triangles, box: Box, image_size: tuple[int, int], capacity: int
) -> tuple[Int[Array, " N"], Float[Array, " N"], Int[Array, " N"], Int[Array, ""]]:
    """The fragments of every box: pixel index (H*W where not covered), depth, triangle [capacity]; the demand."""
    height, width = image_size
    face, step, listed, (left, top, columns), demand = expand(
        box.width * box.height, capacity, box.left.astype(jnp.int32), box.top.astype(jnp.int32), box.width)
    column, row = scan_order(step, columns, left, top)
    inside, depth = cover(*split(take(points, take(triangles, face))), column, row)
    pixel = jnp.where(inside & listed, pixel_number(column, row, image_size), height * width)
    return pixel, depth, face, demand


def expand(
    counts: Int[Array, " n"], capacity: int, *values: Int[Array, " n"]
) -> tuple[Int[Array, " N"], Int[Array, " N"], Bool[Array, " N"], list[Int[Array, " N"]], Int[Array, ""]]:
    """Repeat each index i counts[i] times in a list of `capacity` entries.

    Returns owner [capacity] int32 (which i), step [capacity] (0 .. counts[i] - 1), listed [capacity] (False behind
    the end), the owner's `values` (int32 arrays like `counts`) and demand [] (the sum of counts: what is above
    `capacity` is cut off).
    """
    # A mesh blown up out of all proportion must report overflow, not wrap around.
    total = jnp.sum(counts.astype(jnp.float32))
    counts = jnp.where(total < 2**30, counts, 0)
    end = jnp.cumsum(counts)
    start = end - counts
    order = jnp.arange(len(counts), dtype=jnp.int32)
    first = jnp.zeros(capacity, jnp.int32).at[jnp.where(counts > 0, start, capacity)].set(order, mode="drop")
    owner = jax.lax.cummax(first)
    start, *values = (take(value, owner) for value in (start, *values))
    place = jnp.arange(capacity, dtype=jnp.int32)
    listed = place < end[-1]
    return owner, jnp.where(listed, place - start, 0), listed, values, jnp.where(total < 2**30, end[-1], 2**30)


def scan_order(
    step: Int[Array, " N"], columns: Int[Array, " N"], left: Int[Array, " N"], top: Int[Array, " N"]
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Pixel (column, row) as float32 of entry `step` in a box that is `columns` wide and starts at (left, top)."""
    columns = jnp.maximum(columns, 1)
    if len(step) > 2**22:
        down, across = step // columns, step % columns
        return (left + across).astype(jnp.float32), (top + down).astype(jnp.float32)
    # Whole numbers up to 2^22 divide exactly enough in float32, and much faster than in int32.
    step, columns, left, top = (a.astype(jnp.float32) for a in (step, columns, left, top))
    down = jnp.floor((step + 0.5) / columns)
    return left + (step - down * columns), top + down


def pixel_number(
    column: Float[Array, "*batch"], row: Float[Array, "*batch"], image_size: tuple[int, int]
) -> Int[Array, "*batch"]:
    """Flat index, int32, of pixels (column, row) in float32."""
    height, width = image_size
    if height * width > 2**24:  # then float32 has no odd numbers
        return row.astype(jnp.int32) * width + column.astype(jnp.int32)
    return (row * width + column).astype(jnp.int32)
