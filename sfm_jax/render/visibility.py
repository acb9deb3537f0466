"""Which triangle does each pixel see: a triangle-id and depth buffer, without gradients.

Rendering is deferred: visibility only chooses, everything differentiable is recomputed from the chosen triangle's
corners (`sfm_jax.render.interpolate`), so that no array of pixels x triangles ever exists.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float, Int

from sfm_jax.array_types import AnyArray, Triangles
from sfm_jax.render.caps import Caps, default_caps, shortfall
from sfm_jax.render.coverage import NONE
from sfm_jax.render.fragments import fragments
from sfm_jax.render.tiles import tiles
from sfm_jax.render.window import window

BACKENDS = {"fragments": fragments, "window": window, "tiles": tiles}


class Visibility(NamedTuple):
    """triangle [H, W] int32 (-1: background), depth [H, W] (nearness, FAR: background), demand, overflow [] int32.

    overflow is the number of list entries that did not fit: above zero the image may lack pixels, and
    `sfm_jax.render.check_overflow` names the capacity that would do.
    """

    triangle: Int[Array, "H W"]
    depth: Float[Array, "H W"]
    demand: Caps
    overflow: Int[Array, ""]


def fastest_backend() -> str:
    """On the default device."""
    return "tiles" if jax.default_backend() == "tpu" else "fragments"


def visibility(
    points: Float[AnyArray, "V 3"], triangles: Triangles, image_size: tuple[int, int], backend: str | None = None,
    caps: Caps | None = None, cull: bool = False,
) -> Visibility:
    """The nearest triangle at every pixel centre; of equally near ones the one of smaller index.

    Args:
      points: [V, 3] (x px right, y px down, nearness), see `sfm_jax.geometry.camera`. No gradient passes.
      triangles: [F, 3] vertex indices.
      image_size: (height, width).
      backend: "fragments", "window" or "tiles"; None is the fastest on the default device. All give the same ids.
      caps: capacities of the lists; None is `default_caps`, `suggest_caps` is tighter and faster.
      cull: leave out triangles that face away.

    Raises:
      ValueError: wrong shapes, triangle indices out of range, an empty image, or (outside jit) non-finite points.
    """
    check_mesh(points, triangles)
    check_image_size(image_size)
    backend = backend or fastest_backend()
    if backend not in BACKENDS:
        raise ValueError(f"backend: found {backend!r}, expected one of {', '.join(BACKENDS)}")
    caps = caps or default_caps(image_size, len(triangles), 0.0)

    def find(points, triangles):
        ids, depths, demand = BACKENDS[backend](points, triangles, image_size, caps, cull)
        return jnp.where(ids == NONE, -1, ids), depths, demand

    # One image after the other: on a CPU, batched scatters take twice as long.
    find = sequential_vmap(find) if jax.default_backend() == "cpu" else find
    ids, depths, demand = find(jax.lax.stop_gradient(points), jnp.asarray(triangles, jnp.int32))
    demand = Caps(**demand)
    return Visibility(ids.reshape(image_size), depths.reshape(image_size), demand, shortfall(demand, caps))


def check_mesh(points: AnyArray, triangles: AnyArray) -> None:
    """ValueError for wrong shapes, indices out of range and, where the values are known, non-finite points."""
    if points.ndim != 2 or points.shape[1] != 3 or points.shape[0] == 0:
        raise ValueError(f"points: shape {points.shape}, expected [V, 3] (vmap for batches)")
    if np.ndim(triangles) != 2 or np.shape(triangles)[1] != 3 or len(triangles) == 0:
        raise ValueError(f"triangles: shape {np.shape(triangles)}, expected [F, 3] with F > 0")
    if not isinstance(triangles, jax.core.Tracer):
        triangles = np.asarray(triangles)
        if not np.issubdtype(triangles.dtype, np.integer):
            raise ValueError(f"triangles: dtype {triangles.dtype}, expected integers")
        if triangles.min() < 0 or triangles.max() >= len(points):
            raise ValueError(f"triangles: indices {triangles.min()}..{triangles.max()}, expected 0..{len(points) - 1}")
    if not isinstance(points, jax.core.Tracer) and not np.isfinite(np.asarray(points)).all():
        raise ValueError(f"points: {(~np.isfinite(np.asarray(points))).any(1).sum()} of {len(points)} are not finite")


def check_image_size(image_size: tuple[int, int]) -> None:
    """ValueError unless (height, width) are two positive whole numbers."""
    if len(image_size) != 2 or not all(isinstance(n, int | np.integer) and n > 0 for n in image_size):
        raise ValueError(f"image_size: found {image_size}, expected (height, width), both above 0")
