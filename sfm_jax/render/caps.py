"""Capacities of the fixed-length lists that rendering under jit needs, their demand, and how to choose them."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int

Count = int | Int[Array, "*batch"]
TILE, BLOCK = 16, 64  # side of a tile in pixels; triangles of one that are compared at once


class Caps(NamedTuple):
    """Lengths of the renderer's lists: static numbers as capacities, traced counts [] as a render's demand.

    fragments: (triangle, pixel) candidates; large: those of triangles above 2 x 2 pixels (window backend);
    tile_pairs, tile_blocks: (triangle, 16 x 16 tile) pairs, blocks of 64 triangles in one tile (tiles backend);
    contour: contour edges of the mesh; contour_fragments: (contour edge, pixel) candidates;
    band: pixels beside a contour. What a render does not use has demand 0.
    """

    fragments: Count = 0
    large: Count = 0
    tile_pairs: Count = 0
    tile_blocks: Count = 0
    contour: Count = 0
    contour_fragments: Count = 0
    band: Count = 0


def default_caps(image_size: tuple[int, int], triangle_count: int, edge_width: float = 2.0) -> Caps:
    """Capacities that hold a face-like mesh that fills the image; `suggest_caps` gives tighter, faster ones."""
    pixels = image_size[0] * image_size[1]
    tile_count = -(-image_size[0] // TILE) * -(-image_size[1] // TILE)
    pairs = 2 * triangle_count + 16 * tile_count
    contour = min(3 * triangle_count // 2 + 64, 8192 + 16 * int(pixels**0.5)) if edge_width else 0
    return Caps(
        fragments=4 * pixels + 4096, large=4 * pixels + 4096,
        tile_pairs=pairs, tile_blocks=most_blocks(pairs, tile_count),
        contour=contour, contour_fragments=2 * pixels + 32 * contour, band=pixels if edge_width else 0,
    )


def most_blocks(pairs: Count, tile_count: int) -> Count:
    """Blocks of so many (triangle, tile) pairs, however they lie: every tile may have one that is not full."""
    return tile_count + -(-pairs // BLOCK)


def shortfall(demand: Caps, caps: Caps) -> Int[Array, ""]:
    """Number of list entries [] int32 that `demand` has above `caps`."""
    return sum(jnp.maximum(jnp.asarray(need) - have, 0) for need, have in zip(demand, caps, strict=True))
