"""UV space: what each texel shows of the surface, images unwrapped into it, and maps brought back to the mesh.

A UV map is an array [S, S, C]. The centre of texel (row i, column j) lies at u = (j + 0.5) / S, v = 1 - (i + 0.5) / S,
so that the map, seen as an image, has v upwards. What depends on the topology alone is computed once, in NumPy, by
`uv_layout`; everything else is differentiable jax.numpy for one face (vmap for batches).
"""

import dataclasses
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float64, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from sfm_jax.array_types import AnyArray, Triangles
from sfm_jax.geometry.camera import Camera, to_camera
from sfm_jax.geometry.mesh import vertex_normals
from sfm_jax.geometry.products import matmul
from sfm_jax.geometry.static import StaticArrays
from sfm_jax.render.coverage import FAR, signed_area, take
from sfm_jax.render.interpolate import interpolate

GUTTER = 2.0  # texels around a chart that repeat its border, so that bilinear sampling finds no void
_SPACING = 0.25  # texels between samples of a chart's border


@dataclasses.dataclass(frozen=True, eq=False)
class Sampling(StaticArrays):
    """How the vertices of a mesh sample a UV map. Read-only NumPy, equal when its contents are: static under jit.

    size S; vertex_count V, one more than the highest index in a triangle; for each of P (vertex, UV) pairs
    sample_vertex [P], sample_texels [P, 4] flat texel indices, sample_weights [P, 4]. A vertex on a seam has several
    pairs, whose weights sum to 1 together.
    """

    size: int
    vertex_count: int
    sample_vertex: Int[np.ndarray, " P"]
    sample_texels: Int[np.ndarray, "P 4"]
    sample_weights: Float[np.ndarray, "P 4"]


@dataclasses.dataclass(frozen=True, eq=False)
class UVLayout(Sampling):
    """The rasterised UV layout of a mesh, from `uv_layout`.

    triangles [F, 3], uv [U, 2], uv_triangles [F, 3] and the chart of each triangle, triangle_chart [F]; for every
    texel the triangle [S, S] int32 that it shows (-1: none) and barycentric weights [S, S, 3] in it. mask [S, S] is
    where the texel's centre lies in a chart; texels of the gutter around show the nearest point of a border instead.
    """

    triangles: Int[np.ndarray, "F 3"]
    uv: Float[np.ndarray, "U 2"]
    uv_triangles: Int[np.ndarray, "F 3"]
    triangle_chart: Int[np.ndarray, " F"]
    triangle: Int[np.ndarray, "S S"]
    weights: Float[np.ndarray, "S S 3"]
    mask: Bool[np.ndarray, "S S"]

    @property
    def chart(self) -> Int[np.ndarray, "S S"]:
        """The chart [S, S] of each texel, -1 outside the mask."""
        return np.where(self.mask, self.triangle_chart[self.triangle], -1)


@runtime_checkable
class MeshWithUV(Protocol):
    """What `uv_layout` asks of a mesh; a Topology and a render Surface have it."""

    triangles: Triangles
    uv: Float[AnyArray, "U 2"] | None
    uv_triangles: Triangles | None


class Unwrapped(NamedTuple):
    """colour [S, S, C], zero where no texel is; visible [S, S] bool: the image shows this texel, free of gradients."""

    colour: Float[Array, "*batch S S C"]
    visible: Bool[Array, "*batch S S"]


# --------------------------------------------------------------------------------------------- per frame

def vertices_to_map(values: Float[AnyArray, "V C"], layout: UVLayout) -> Float[Array, "S S C"]:
    """Vertex values [V, C] as a UV map [S, S, C]; zero where no texel is. Of vertices: a position map."""
    corner = layout.triangles[np.maximum(layout.triangle, 0)]
    total = sum(layout.weights[..., k, None] * take(values, corner[..., k]) for k in range(3))
    return jnp.where(layout.triangle[..., None] >= 0, total, 0)


def map_to_vertices(uv_map: Float[AnyArray, "S S C"], sampling: Sampling) -> Float[Array, "V C"]:
    """A UV map [S, S, C] at the vertices of a layout or of a dense mesh, [V, C].

    Bilinear among the texels of the vertex's own chart: what lies outside the mask is never read. A vertex on a
    seam gets the mean over its charts.
    """
    size = sampling.size
    if uv_map.ndim != 3 or uv_map.shape[:2] != (size, size):
        raise ValueError(f"uv_map: shape {uv_map.shape}, expected [{size}, {size}, C]")
    flat = uv_map.reshape(size * size, -1)
    texels, weights = sampling.sample_texels, sampling.sample_weights
    parts = sum(weights[:, k, None] * take(flat, texels[:, k]) for k in range(4))
    return jnp.zeros((sampling.vertex_count, flat.shape[1]), parts.dtype).at[sampling.sample_vertex].add(parts)


def sample_map(uv_map: Float[AnyArray, "H W C"], uv: Float[AnyArray, "*batch 2"]) -> Float[Array, "*batch C"]:
    """A UV map [H, W, C] at coordinates uv [..., 2], bilinear, [..., C]: the texture of a `Rendering.uv` image."""
    height, width = uv_map.shape[:2]
    return sample_image(uv_map, jnp.stack([uv[..., 0] * width, (1 - uv[..., 1]) * height], -1))


def sample_image(image: Float[AnyArray, "H W C"], points: Float[AnyArray, "*batch 2"]) -> Float[Array, "*batch C"]:
    """An image [H, W, C] at points [..., 2] (x right, y down, first pixel's centre at 0.5), bilinear, [..., C].

    Differentiable in both; outside the image its edge goes on.
    """
    height, width, channels = image.shape
    pixels, weights = _taps(points[..., 0], points[..., 1], height, width)
    flat = image.reshape(-1, channels)
    return sum(weights[..., k, None] * take(flat, pixels[..., k]) for k in range(4))


def unwrap(
    image: Float[AnyArray, "H W C"], vertices: Float[AnyArray, "V 3"], camera: Camera, layout: UVLayout,
    triangle: Int[AnyArray, "H W"], tolerance: float = 1.0, least_cosine: float = 0.15,
) -> Unwrapped:
    """The colours that `image` shows of each texel; differentiable in image, vertices and camera.

    Args:
      image: [H, W, C].
      vertices: [V, 3] mm.
      camera: the camera of the image.
      layout: from `uv_layout`.
      triangle: [H, W] the triangle seen by each pixel (-1: none): `Rendering.triangle` or `Visibility.triangle`.
      tolerance: a texel is visible if the surface at all pixels around lies this near to its tangent plane, pixels.
      least_cosine: and if its triangle faces the viewer with at least this cosine.

    Raises:
      ValueError: an image or a triangle buffer of another shape.
    """
    if image.ndim != 3 or triangle.shape != image.shape[:2]:
        raise ValueError(f"unwrap: image {image.shape}, triangle {triangle.shape}, expected [H, W, C] and [H, W]")
    points = camera.project(vertices_to_map(vertices, layout), vertices)
    used = jnp.asarray(layout.triangle >= 0)
    colour = jnp.where(used[..., None], sample_image(image, points[..., :2]), 0.0)
    projected, points = jax.lax.stop_gradient((camera.project(vertices), points))
    return Unwrapped(colour, _visible(points, projected, layout, triangle, tolerance, least_cosine) & layout.mask)


def displace(
    vertices: Float[AnyArray, "V 3"], triangles: Triangles, offsets: Float[AnyArray, " V"], camera: Camera | None = None
) -> Float[Array, "V 3"]:
    """Vertices [V, 3] moved by offsets [V] mm along their normals; with a camera along its rays, towards the viewer.

    With `map_to_vertices` this is displacement by a UV map; moves along the rays leave the image points as they are.
    """
    if offsets.shape != vertices.shape[:-1]:
        raise ValueError(f"offsets: shape {offsets.shape}, expected {vertices.shape[:-1]}")
    if camera is None:
        direction = vertex_normals(vertices, triangles)
    else:
        positions = to_camera(vertices, camera.rotation, camera.translation)
        towards = camera.towards_eye(positions)
        direction = matmul(towards, camera.rotation)
    return vertices + offsets[..., None] * direction


def _visible(points, projected, layout, ids, tolerance, least_cosine):
    """Which texels at image points [S, S, 3] face the viewer and lie on the surface that the pixels around show."""
    height, width = ids.shape
    # Nearness is linear on the screen, in pixels: its slope in a triangle gives the tangent plane.
    (x, y, z), triangles = projected.T, layout.triangles
    x, y, z = (tuple(take(axis, triangles[:, k]) for k in range(3)) for axis in (x, y, z))
    area = signed_area(x, y)
    inverse = 1 / jnp.where(area == 0, 1.0, area)
    slopes = jnp.stack([signed_area(z, y) * inverse, signed_area(x, z) * inverse, area], -1)
    slope_x, slope_y, area = jnp.moveaxis(take(slopes, np.maximum(layout.triangle, 0)), -1, 0)
    cosine = jax.lax.rsqrt(1 + slope_x**2 + slope_y**2)

    nearness, _ = interpolate(projected[:, 2:], projected, triangles, ids)
    nearness = jnp.where(ids >= 0, nearness[..., 0], FAR).reshape(-1)
    x, y, z = jnp.moveaxis(points, -1, 0)
    visible = (area < 0) & (cosine >= least_cosine)
    visible &= (x >= 0.5) & (y >= 0.5) & (x <= width - 0.5) & (y <= height - 0.5)
    pixels, weights = _taps(x, y, height, width)
    for k in range(4):
        pixel = pixels[..., k]
        column, row = (pixel % width).astype(jnp.float32) + 0.5, (pixel // width).astype(jnp.float32) + 0.5
        plane = z + slope_x * (column - x) + slope_y * (row - y)
        apart = jnp.abs(take(nearness, pixel) - plane) * cosine
        visible &= (apart <= tolerance) | (weights[..., k] == 0)
    return visible


def _taps(x, y, height, width, xp=jnp):
    """The four pixels around image points: flat indices [..., 4] int32 and bilinear weights [..., 4]."""
    x, y = xp.clip(x - 0.5, 0, width - 1), xp.clip(y - 0.5, 0, height - 1)
    left, top = xp.clip(xp.floor(x), 0, max(width - 2, 0)), xp.clip(xp.floor(y), 0, max(height - 2, 0))
    right, down = x - left, y - top
    first = top.astype(np.int32) * width + left.astype(np.int32)
    across, below = min(1, width - 1), width * min(1, height - 1)
    pixels = xp.stack([first, first + across, first + below, first + below + across], -1)
    weights = [(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down]
    return pixels, xp.stack(weights, -1)


# ------------------------------------------------------------------------------------- once per topology

def uv_layout(mesh: MeshWithUV, size: int = 256) -> UVLayout:
    """Rasterise a mesh's UV layout into size x size texels. Slow, in NumPy: once per topology, outside jit.

    Args:
      mesh: a Topology or a render Surface; its uv in [0, 1].
      size: texels along a side, a power of two.

    Raises:
      ValueError: a mesh without UVs, indices that do not fit, a size that is not a power of two, or so small that a
        chart has no texel.
    """
    if not isinstance(size, int | np.integer) or size < 2 or size & (size - 1):
        raise ValueError(f"size: found {size!r}, expected a power of two (64, 128, 256, ...)")
    triangles, uv, uv_triangles = _check_uv(mesh)
    corners = texel_points(uv, size)[uv_triangles]
    triangle, weights = _rasterise(corners, size)
    mask = triangle >= 0
    uv_chart = connected_components(coo_matrix(
        (np.ones(2 * len(uv_triangles)), (np.tile(uv_triangles[:, 0], 2), uv_triangles[:, 1:].T.ravel())),
        shape=(len(uv), len(uv))), directed=False)[1]
    names, triangle_chart = np.unique(uv_chart[uv_triangles[:, 0]], return_inverse=True)
    filled = np.unique(triangle_chart[triangle[mask]])
    if len(filled) < len(names):
        raise ValueError(f"size: {size} leaves {len(names) - len(filled)} of {len(names)} UV charts without a texel")

    chart = np.where(mask, triangle_chart[triangle], -1)
    face, border_weights, place = border_samples(uv_triangles, corners)
    row, column = np.nonzero(~mask)
    distance, nearest = cKDTree(place).query(np.stack([column, row], 1) + 0.5, distance_upper_bound=GUTTER)
    near = np.isfinite(distance)
    triangle[row[near], column[near]] = face[nearest[near]]
    weights[row[near], column[near]] = border_weights[nearest[near]]

    pairs = np.unique(np.stack([triangles, uv_triangles, np.repeat(triangle_chart[:, None], 3, 1)], -1)
                      .reshape(-1, 3), axis=0)
    table = sampling_table(pairs[:, 0], texel_points(uv, size)[pairs[:, 1]], pairs[:, 2], chart)
    return UVLayout(size, int(triangles.max()) + 1, *table, triangles, uv, uv_triangles,
                    triangle_chart.astype(np.int32), triangle, weights.astype(np.float32), mask)


def texel_points(uv: Float[AnyArray, "*batch 2"], size: int) -> Float64[np.ndarray, "*batch 2"]:
    """uv [..., 2] in units of texels, x right and y down, float64."""
    uv = np.asarray(uv, np.float64)
    return np.stack([uv[..., 0] * size, (1 - uv[..., 1]) * size], -1)


def border_edges(uv_triangles: Int[np.ndarray, "F 3"]) -> tuple[Int[np.ndarray, " E"], Int[np.ndarray, " E"]]:
    """The sides at which charts end: face [E] and corner [E] where the side begins (it ends at corner + 1)."""
    sides = np.sort(np.stack([uv_triangles, np.roll(uv_triangles, -1, 1)], -1).reshape(-1, 2), 1)
    _, inverse, count = np.unique(sides, axis=0, return_inverse=True, return_counts=True)
    side = np.flatnonzero(count[inverse.ravel()] == 1)
    return side // 3, side % 3


def border_samples(
    uv_triangles: Int[np.ndarray, "F 3"], corners: Float[np.ndarray, "F 3 2"]
) -> tuple[Int[np.ndarray, " B"], Float[np.ndarray, "B 3"], Float[np.ndarray, "B 2"]]:
    """Points along the charts' borders: face [B], weights in it [B, 3] and place [B, 2] in texels."""
    face, corner = border_edges(uv_triangles)
    after = (corner + 1) % 3
    length = np.linalg.norm(corners[face, after] - corners[face, corner], axis=1)
    count = np.ceil(length / _SPACING).astype(np.int64) + 1
    edge, step = expand(count)
    share = step / np.maximum(count - 1, 1)[edge]
    weights = np.zeros((len(edge), 3))
    row = np.arange(len(edge))
    weights[row, corner[edge]], weights[row, after[edge]] = 1 - share, share
    return face[edge], weights, np.einsum("bk,bkc->bc", weights, corners[face[edge]])


def expand(count: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """Each index i count[i] times, with steps 0 .. count[i] - 1."""
    owner = np.repeat(np.arange(len(count)), count)
    return owner, np.arange(len(owner)) - (np.cumsum(count) - count)[owner]


def sampling_table(
    vertex: Int[np.ndarray, " P"], place: Float[np.ndarray, "P 2"], own_chart: Int[np.ndarray, " P"],
    chart: Int[np.ndarray, "S S"],
) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, "P 4"], Float[np.ndarray, "P 4"]]:
    """sample_vertex, sample_texels, sample_weights of vertices [P] at `place` [P, 2] texels, in charts `own_chart` [P].

    chart [S, S] is each texel's. Where a chart has none of the four texels around, its nearest one serves.
    """
    size = len(chart)
    texels, weights = _taps(place[:, 0], place[:, 1], size, size, np)
    weights = weights * (chart.reshape(-1)[texels] == own_chart[:, None])
    for name in np.unique(own_chart[weights.sum(1) < 1e-3]):
        lost = (weights.sum(1) < 1e-3) & (own_chart == name)
        row, column = np.nonzero(chart == name)
        nearest = cKDTree(np.stack([column, row], 1) + 0.5).query(place[lost])[1]
        texels[lost] = (row * size + column)[nearest, None]
        weights[lost] = [1, 0, 0, 0]
    weights /= weights.sum(1, keepdims=True) * np.bincount(vertex)[vertex, None]
    # What has no weight is not read, so that it may hold anything, NaN included.
    heaviest = np.take_along_axis(texels, weights.argmax(1)[:, None], 1)
    texels = np.where(weights > 0, texels, heaviest)
    return vertex.astype(np.int32), texels.astype(np.int32), weights.astype(np.float32)


def _check_uv(mesh):
    """triangles, uv, uv_triangles of a mesh that has them; ValueError otherwise."""
    triangles = np.asarray(mesh.triangles, np.int32)
    uv, uv_triangles = mesh.uv, mesh.uv_triangles
    if uv is None or len(uv) == 0 or uv_triangles is None or len(uv_triangles) == 0:
        raise ValueError("uv: the model has no UV layout; add one with dataclasses.replace(topology, uv=uv, "
                         "uv_triangles=uv_triangles): uv [U, 2] in 0..1, uv_triangles [F, 3] indices into it")
    uv, uv_triangles = np.asarray(uv, np.float32), np.asarray(uv_triangles, np.int32)
    if uv_triangles.shape != triangles.shape or uv_triangles.min() < 0 or uv_triangles.max() >= len(uv):
        raise ValueError(f"uv_triangles: shape {uv_triangles.shape} up to index {uv_triangles.max()}, "
                         f"expected {triangles.shape} below {len(uv)}")
    if not (np.isfinite(uv).all() and uv.min() >= 0 and uv.max() <= 1):
        raise ValueError(f"uv: values {uv.min():g}..{uv.max():g}, expected 0..1")
    return triangles, uv, uv_triangles


def _rasterise(corners, size):
    """triangle [S, S] int32 (-1: none, the smaller one on shared edges), weights [S, S, 3] of corners [F, 3, 2]."""
    low = np.clip(np.ceil(corners.min(1) - 0.5), 0, size).astype(np.int64)
    high = np.clip(np.floor(corners.max(1) - 0.5), -1, size - 1).astype(np.int64)
    width, height = np.maximum(high - low + 1, 0).T
    face, step = expand(width * height)
    column, row = low[face, 0] + step % width[face], low[face, 1] + step // width[face]
    offset = corners[face] - np.stack([column + 0.5, row + 0.5], -1)[:, None]
    products = [offset[:, i, 0] * offset[:, j, 1] - offset[:, j, 0] * offset[:, i, 1]
                for i, j in ((1, 2), (2, 0), (0, 1))]
    area = sum(products)
    weights = np.stack(products, -1) / np.where(area == 0, 1, area)[:, None]
    # Backwards, so that the smallest triangle is written last.
    inside = np.flatnonzero((weights.min(1) >= -1e-9) & (area != 0))[::-1]
    place = row[inside], column[inside]
    triangle, texel_weights = np.full((size, size), -1, np.int32), np.zeros((size, size, 3))
    triangle[place], texel_weights[place] = face[inside], weights[inside]
    return triangle, texel_weights
