"""Soft silhouettes: coverage that falls smoothly over the contours, outer ones and those of the face over itself.

A rendered image jumps where a surface ends before the background or before a farther surface, and a jump has no
gradient. So the pixels within half a width of such a contour become a blend of the surface in front and what lies
behind it, by a coverage that is a smooth function of the signed distance to the nearest contour edge: from there
comes the gradient that moves a silhouette. Contour edges are few, of the order of sqrt(F); everything happens on
short lists. The blending by distance follows the idea of Soft Rasterizer (Liu et al., ICCV 2019) and of SDF-based
anti-aliasing; the contour test and the lists are ours.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Bool, Float, Int

from sfm_jax.array_types import AnyArray, Triangles
from sfm_jax.geometry.camera import BEHIND
from sfm_jax.geometry.mesh import Edges
from sfm_jax.render.caps import Caps, shortfall
from sfm_jax.render.coverage import FAR, NONE, nearest, signed_area, take
from sfm_jax.render.fragments import expand, pixel_number, scan_order
from sfm_jax.render.visibility import Visibility

_JUMP = 1.0  # pixels of depth between a contour and what lies behind it; less is no visible step
_OUTWARD, _INWARD = 1.5, 1.0  # pixels from the edge at which the two sides are looked up: more than half a diagonal
_ASTRAY = 0.5  # pixels by which a covered pixel may lie on the outer side of its edge (contours are zigzags)


class Band(NamedTuple):
    """The pixels beside contours, a list of fixed length B; entries that are not used have pixel = H*W.

    pixel [B] int32; edge [B] int32; front [B] bool, the pixel shows the surface in front of the contour; other [B]
    int32, a pixel of the contour's other side; demand (Caps) and overflow [] int32.
    """

    pixel: Int[Array, " B"]
    edge: Int[Array, " B"]
    front: Bool[Array, " B"]
    other: Int[Array, " B"]
    demand: Caps
    overflow: Int[Array, ""]


def contour_band(
    points: Float[AnyArray, "V 3"], triangles: Triangles, edges: Edges, seen: Visibility, width: float, caps: Caps,
    cull: bool = False,
) -> Band:
    """Find the contours that are seen and the pixels within width / 2 of them. No gradient passes.

    An edge lies on a contour where the surface folds back or ends, its outer side is empty or at least one pixel
    farther away, and it is not itself hidden. points [V, 3] (x px, y px, nearness), `seen` from the same points.
    """

    room = Caps(*(max(capacity, 1) for capacity in caps))

    def find(points, triangles, vertices, faces, depth):
        corner, rows, contour_demand = _contour_edges(points, triangles, vertices, faces, room.contour, cull)
        index, box_demand = _nearest_edges(rows, depth, width / 2, room.contour_fragments)
        close, _, _, _, demand = expand((index != NONE).astype(jnp.int32), room.band)
        listed = jnp.arange(room.band) < demand
        local = jnp.where(listed, take(index, close), 0)
        _, _, front, other = _probe(take(rows, local), close, depth, width / 2)
        return jnp.where(listed, close, depth.size), take(corner, local), front, other, (
            contour_demand, box_demand, demand)

    find = sequential_vmap(find) if jax.default_backend() == "cpu" else find
    *lists, (contour, boxes, band) = find(
        jax.lax.stop_gradient(points), jnp.asarray(triangles), *map(jnp.asarray, edges), seen.depth)
    # What an earlier list cut off was not seen by the later ones: their demand is then a bound, not a count.
    boxes = boxes * jnp.maximum(-(-contour // room.contour), 1)
    cut = (seen.overflow > 0) | (boxes > caps.contour_fragments)
    demand = Caps(
        contour=contour, contour_fragments=boxes, band=jnp.where(cut, jnp.minimum(boxes, seen.depth.size), band))
    return Band(*lists, demand, shortfall(demand, caps))


def coverage(
    points: Float[AnyArray, "V 3"], edges: Edges, band: Band, image_width: int, width: float
) -> Float[Array, " B"]:
    """How far each of the band's pixels [B] is covered by the surface in front: 1 inside, 0.5 on the edge, 0 outside.

    The signed distance seen through a tent filter `width` pixels wide; differentiable in `points`. The samples of a
    tent of even width add up to one wherever they lie: a shifted edge gains exactly what it should.
    """
    ends = take(points[:, :2], take(jnp.asarray(edges.vertices), band.edge))
    column = (band.pixel % image_width).astype(jnp.float32) + 0.5
    row = (band.pixel // image_width).astype(jnp.float32) + 0.5
    squared, *_ = _segment(ends[:, 0, 0], ends[:, 0, 1], ends[:, 1, 0], ends[:, 1, 1], column, row)
    distance = jnp.sqrt(jnp.maximum(squared, 1e-8))
    offset = jnp.clip(2 * jnp.where(band.front, distance, -distance) / width, -1.0, 1.0)
    return 0.5 + offset - 0.5 * offset * jnp.abs(offset)


def soften(
    image: Float[AnyArray, "H W C"], points: Float[AnyArray, "V 3"], edges: Edges, band: Band, width: float
) -> Float[Array, "H W C"]:
    """Blend a hard image [H, W, C] across its contours; premultiplied, so that background is all zeros.

    The blend's two colours are the pixel's own and that of the other side's nearest pixel: differentiable in both,
    and through `coverage` in `points`.
    """
    height, columns, channels = image.shape
    flat = image.reshape(-1, channels)
    inside = jnp.minimum(band.pixel, height * columns - 1)
    own, other = take(flat, inside), take(flat, band.other)
    cover = coverage(points, edges, band, columns, width)
    cover = jnp.where(band.front, cover, 1 - cover)[:, None]
    return flat.at[band.pixel].set(cover * own + (1 - cover) * other, mode="drop").reshape(image.shape)


def _contour_edges(points, triangles, vertices, faces, capacity, cull):
    """Edges where the mesh folds or ends: index [K], rows [K, 8] (both ends' x, y, z, outward normal), the demand."""
    x, y = (tuple(take(points[:, axis], triangles[:, k]) for k in range(3)) for axis in (0, 1))
    facing = signed_area(x, y) < 0
    first, second = take(facing, faces[:, 0]), take(facing, jnp.maximum(faces[:, 1], 0))
    border = faces[:, 1] < 0
    contour = border | (first != second)
    if cull:
        contour &= first | (second & ~border)
    edge, _, listed, _, demand = expand(contour.astype(jnp.int32), capacity)

    a, b = (take(points, take(vertices[:, k], edge)) for k in (0, 1))
    face = take(triangles, take(faces[:, 0], edge))
    # Both faces of a fold lie on the same side of its edge, as does a border's only one: away from it is outward.
    third = sum(take(points[:, :2], face[:, k]) for k in range(3)) - a[:, :2] - b[:, :2]
    along = b[:, :2] - a[:, :2]
    normal = jnp.stack([along[:, 1], -along[:, 0]], -1)
    length = jnp.sqrt(jnp.sum(normal**2, -1))
    inward = jnp.sum(normal * (third - a[:, :2]), -1)
    usable = listed & (length > 0) & (inward != 0) & (jnp.minimum(a[:, 2], b[:, 2]) > BEHIND / 2)
    normal = normal * jnp.where(usable, -jnp.sign(inward) / jnp.where(usable, length, 1.0), 0.0)[:, None]
    return edge, jnp.concatenate([a, b, normal], 1), demand


def _nearest_edges(rows, depth, radius, capacity):
    """For each pixel [H*W] the nearest visible contour edge within `radius`, an index into rows or NONE; the demand."""
    height, width = depth.shape
    usable = (rows[:, 6] != 0) | (rows[:, 7] != 0)

    def span(first, second, size):
        low = jnp.clip(jnp.ceil(jnp.minimum(first, second) - radius - 0.5), 0.0, size)
        high = jnp.clip(jnp.floor(jnp.maximum(first, second) + radius - 0.5), -1.0, size - 1.0)
        return low.astype(jnp.int32), jnp.where(usable, jnp.maximum(high - low + 1, 0), 0).astype(jnp.int32)

    left, columns = span(rows[:, 0], rows[:, 3], width)
    top, lines = span(rows[:, 1], rows[:, 4], height)
    edge, step, listed, (left, top, columns), demand = expand(columns * lines, capacity, left, top, columns)
    column, row = scan_order(step, columns, left, top)
    pixel = jnp.clip(pixel_number(column, row, (height, width)), 0, height * width - 1)
    valid, rank, _, _ = _probe(take(rows, edge), pixel, depth, radius)
    found, _ = nearest(jnp.where(valid & listed, pixel, height * width), rank, edge, height * width)
    return found, demand


def _probe(row, pixel, depth, radius):
    """One pixel against one edge: squared distance, is the pixel in front, a pixel of the other side, does it count."""
    height, width = depth.shape
    ax, ay, az, bx, by, bz, normal_x, normal_y = (row[:, k] for k in range(8))
    column, line = (pixel % width).astype(jnp.float32) + 0.5, (pixel // width).astype(jnp.float32) + 0.5
    squared, share, x, y = _segment(ax, ay, bx, by, column, line)
    edge_depth = az + share * (bz - az)

    def sample(offset):
        at_x = jnp.clip(jnp.floor(x + offset * normal_x), 0, width - 1).astype(jnp.int32)
        at_y = jnp.clip(jnp.floor(y + offset * normal_y), 0, height - 1).astype(jnp.int32)
        return at_y * width + at_x

    flat = depth.reshape(-1)
    own_depth = take(flat, pixel)
    inner, outer, farther = sample(-_INWARD), sample(_OUTWARD / 2), sample(_OUTWARD)
    outer = jnp.where(edge_depth - take(flat, outer) > _JUMP, outer, farther)
    outside = (column - x) * normal_x + (line - y) * normal_y
    behind = (edge_depth - own_depth > _JUMP) & (outside > -_ASTRAY)
    # A pixel behind shows by itself that the edge ends a surface; one in front has to look over the edge.
    valid = (squared < radius**2) & jnp.where(
        behind,
        take(flat, inner) - own_depth > _JUMP,
        (edge_depth - take(flat, outer) > _JUMP) & (outside < _ASTRAY) & (own_depth > FAR),
    )
    rank = -squared + jnp.where(take(flat, jnp.where(behind, pixel, outer)) == FAR, radius**2, 0.0)
    return valid, rank, ~behind, jnp.where(behind, inner, outer)


def _segment(ax, ay, bx, by, x, y):
    """Squared distance from (x, y) to segment a b, and the nearest point: share of b, x, y."""
    dx, dy = bx - ax, by - ay
    squared_length = dx * dx + dy * dy
    usable = squared_length > 0
    share = ((x - ax) * dx + (y - ay) * dy) / jnp.where(usable, squared_length, 1.0)
    share = jnp.where(usable, jnp.clip(share, 0.0, 1.0), 0.0)
    near_x, near_y = ax + share * dx, ay + share * dy
    return (x - near_x) ** 2 + (y - near_y) ** 2, share, near_x, near_y
