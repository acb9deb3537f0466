"""The dense UV mesh: a vertex in every texel, so that a UV map moves each of them, and no gaps at the seams.

Texels end half a texel before their chart does. The strip up to the border is closed with vertices on the border
itself, cut alike on both sides of a seam and shared by them: the dense mesh has the seams closed and exactly the open
borders of the mesh it comes from. Each chart is a Delaunay triangulation of its texel centres and border points, in
which every piece of the border is a side (pieces that are not are halved until they are, as in Ruppert 1995); the
scheme of shared cuts is ours.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Delaunay, cKDTree

from sfm_jax.array_types import AnyArray
from sfm_jax.render.coverage import signed_area, take
from sfm_jax.render.uv import Sampling, UVLayout, border_edges, border_samples, expand, sampling_table, texel_points

CLEARANCE = 0.5  # texels: a centre nearer to the border than this gives way to the vertices there
_ROUNDS = 8  # halvings of border pieces before the layout is given up


@dataclasses.dataclass(frozen=True, eq=False)
class DenseMesh(Sampling):
    """A mesh of V' vertices over a UV layout, from `dense_mesh`; `map_to_vertices` samples UV maps for it.

    triangles [F', 3] int32, outward as the original's. Vertex i lies on the original surface: in triangle face[i], at
    weights[i] [3] between its vertices corners[i] [3]. The first len(texel) vertices are the centres of the texels with
    flat indices `texel`, the others lie on the charts' borders.
    """

    triangles: Int[np.ndarray, "F 3"]
    face: Int[np.ndarray, " V"]
    corners: Int[np.ndarray, "V 3"]
    weights: Float[np.ndarray, "V 3"]
    texel: Int[np.ndarray, " T"]


def dense_vertices(values: Float[AnyArray, "V C"], dense: DenseMesh) -> Float[Array, "D C"]:
    """Vertex values [V, C] (positions, colours) at the dense mesh's vertices, [V', C]; linear, differentiable."""
    return sum(dense.weights[:, k, None] * take(values, dense.corners[:, k]) for k in range(3))


def dense_mesh(layout: UVLayout) -> DenseMesh:
    """Triangulate a layout. Slow, in NumPy and Qhull: once per topology, outside jit.

    Raises:
      ValueError: charts that overlap themselves, fold over, or are too degenerate to triangulate.
    """
    places = texel_points(layout.uv, layout.size)
    texel, texel_place = _clear_texels(layout, places)
    texel_chart = layout.chart.reshape(-1)[texel]
    cuts = _first_cuts(layout, places)
    for _ in range(_ROUNDS):
        border = _border(layout, places, cuts)
        parts, missing = [], []
        for chart in np.unique(layout.triangle_chart):
            inside, own = np.flatnonzero(texel_chart == chart), np.flatnonzero(border.chart == chart)
            names = np.concatenate([inside, len(texel) + border.vertex[own]])
            points = np.concatenate([texel_place[inside], border.place[own]])
            side = np.flatnonzero(border.chart[border.sides[:, 0]] == chart)
            area = signed_area(*places[layout.uv_triangles[layout.triangle_chart == chart]].transpose(2, 1, 0))
            # Mirrored charts are turned over, so that every chart lies to the left of its border, y upwards.
            points = points * [-np.sign(area.sum()), -1]
            triangles, absent = _triangulate(points, len(inside) + np.searchsorted(own, border.sides[side]))
            missing.append(side[absent])
            if not len(absent):
                _check_area(chart, points, triangles, np.abs(area).sum())
                parts.append(names[triangles])
        missing = np.concatenate(missing)
        if not len(missing):
            return _assemble(layout, texel, texel_place, border, np.concatenate(parts))
        cuts = _sorted_cuts(np.concatenate([cuts, np.unique(border.middle[missing], axis=0)]))
    raise ValueError(f"uv: {len(missing)} pieces of the charts' outlines cannot be triangulated at size {layout.size}: "
                     "two of them cross or coincide")


class _Border(NamedTuple):
    """Border points of all charts: place [B, 2] texels, chart [B], the face [B] and weights [B, 3] in it, the shared
    vertex [B]; the pieces between them, sides [M, 2] with the chart on their left, and middle [M, 2], a cut there."""

    place: np.ndarray
    chart: np.ndarray
    face: np.ndarray
    weights: np.ndarray
    vertex: np.ndarray
    sides: np.ndarray
    middle: np.ndarray


def _mesh_edges(layout):
    """Of each border side: face, corner, the mesh edge that it is, and whether it runs against that edge."""
    face, corner = border_edges(layout.uv_triangles)
    ends = np.stack([layout.triangles[face, corner], layout.triangles[face, (corner + 1) % 3]], 1)
    edge = np.unique(np.sort(ends, 1), axis=0, return_inverse=True)[1].ravel()
    return face, corner, edge, ends[:, 0] > ends[:, 1]


def _first_cuts(layout, places):
    """Cuts [N, 2] of the mesh edges on borders (edge, share along it), ends included, no more than a texel apart."""
    face, corner, edge, _ = _mesh_edges(layout)
    corners = places[layout.uv_triangles[face]]
    row = np.arange(len(face))
    length = np.linalg.norm(corners[row, (corner + 1) % 3] - corners[row, corner], axis=1)
    longest = np.zeros(edge.max() + 1)
    np.maximum.at(longest, edge, length)
    count = np.maximum(np.ceil(longest).astype(np.int64), 1) + 1
    owner, step = expand(count)
    return _sorted_cuts(np.stack([owner, step / (count[owner] - 1)], 1))


def _sorted_cuts(cuts):
    return cuts[np.lexsort((cuts[:, 1], cuts[:, 0]))]


def _border(layout, places, cuts):
    """The border points that `cuts` give: one per chart corner, one per cut and side between; vertices shared."""
    face, corner, edge, against = _mesh_edges(layout)
    count = np.bincount(cuts[:, 0].astype(np.int64))
    side, step = expand(count[edge])
    last = count[edge[side]] - 1
    row = (np.cumsum(count) - count)[edge[side]] + np.where(against[side], last - step, step)
    share = np.where(against[side], 1 - cuts[row, 1], cuts[row, 1])
    face, corner, after = face[side], corner[side], (corner[side] + 1) % 3
    weights = np.zeros((len(side), 3))
    entry = np.arange(len(side))
    weights[entry, corner], weights[entry, after] = 1 - share, share

    is_end, at = (step == 0) | (step == last), np.where(step == last, after, corner)
    point = np.where(is_end, layout.uv_triangles[face, at], len(layout.uv) + entry)
    vertex = np.where(is_end, layout.triangles[face, at], layout.vertex_count + row)
    _, first, point = np.unique(point, return_index=True, return_inverse=True)
    vertex = np.unique(vertex, return_inverse=True)[1].ravel()[first]
    begin = np.flatnonzero(step < last)
    middle = np.stack([edge[side[begin]], (cuts[row[begin], 1] + cuts[row[begin + 1], 1]) / 2], 1)
    face, weights = face[first], weights[first]
    place = np.einsum("bk,bkc->bc", weights, places[layout.uv_triangles[face]])
    sides = np.stack([point.ravel()[begin], point.ravel()[begin + 1]], 1)
    return _Border(place, layout.triangle_chart[face], face, weights, vertex, sides, middle)


def _clear_texels(layout, places):
    """Flat indices [T] and centres [T, 2] of the texels that keep CLEARANCE from every border."""
    border = border_samples(layout.uv_triangles, places[layout.uv_triangles])[2]
    texel = np.flatnonzero(layout.mask)
    place = np.stack([texel % layout.size, texel // layout.size], 1) + 0.5
    clear = np.isinf(cKDTree(border).query(place, distance_upper_bound=CLEARANCE)[0])
    return texel[clear], place[clear]


def _triangulate(points, sides):
    """Delaunay triangles [G, 3] of points [N, 2] to the left of the closed outline `sides` [M, 2]; sides it lacks."""
    # A frame far around, so that no straight border lies on the convex hull, where Qhull may add flat triangles.
    low, high = points.min(0), points.max(0)
    frame = (low + high) / 2 + 2 * (high - low).max() * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    count, points = len(points), np.concatenate([points, frame])
    delaunay = Delaunay(points)
    corners, neighbours = delaunay.simplices.astype(np.int64), delaunay.neighbors
    clockwise = signed_area(*points[corners].transpose(2, 1, 0)) < 0
    corners[clockwise], neighbours[clockwise] = corners[clockwise][:, [0, 2, 1]], neighbours[clockwise][:, [0, 2, 1]]
    start, end = np.roll(corners, -1, 1), np.roll(corners, -2, 1)  # the side opposite each corner
    outline = sides[:, 0] * len(points) + sides[:, 1]
    key = start * len(points) + end
    left = np.isin(key, outline)
    wall = left | np.isin(end * len(points) + start, outline) | (neighbours < 0)
    triangle, side = np.nonzero(~wall)
    component = connected_components(coo_matrix(
        (np.ones(len(triangle)), (triangle, neighbours[triangle, side])), shape=(len(corners),) * 2), directed=False)[1]
    inside = np.isin(component, component[left.any(1)]) & (corners.max(1) < count)
    return corners[inside], np.flatnonzero(~np.isin(outline, key))


def _check_area(chart, points, triangles, expected):
    """ValueError if a chart's triangulation has not the (doubled) area `expected`."""
    covered = signed_area(*points[triangles].transpose(2, 1, 0)).sum()
    if abs(covered - expected) > 1e-3 * expected:
        raise ValueError(f"uv: chart {chart} overlaps itself: its triangles have {expected / 2:.1f} square texels, "
                         f"its outline {covered / 2:.1f}")


def _assemble(layout, texel, texel_place, border, triangles):
    """The DenseMesh of texel vertices, then border vertices."""
    shared = np.unique(border.vertex, return_index=True)[1]
    texel_face = layout.triangle.reshape(-1)[texel]
    face = np.concatenate([texel_face, border.face[shared]])
    weights = np.concatenate([layout.weights.reshape(-1, 3)[texel], border.weights[shared]])
    table = sampling_table(
        np.concatenate([np.arange(len(texel)), len(texel) + border.vertex]),
        np.concatenate([texel_place, border.place]),
        np.concatenate([layout.triangle_chart[texel_face], border.chart]), layout.chart)
    return DenseMesh(layout.size, len(face), *table, triangles.astype(np.int32), face, layout.triangles[face],
                     weights.astype(np.float32), texel.astype(np.int32))
