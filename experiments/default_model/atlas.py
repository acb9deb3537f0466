"""A texture atlas for the head: the base mesh's layout is of a whole body, with the face small and on its side.

The head's island is turned upright and stretched axis by axis, so that the face gets more texels; a monotone stretch
of each axis never folds. The small islands (mouth bag, lid rims, eyeballs) stand in a row below it.
"""

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph

from experiments.default_model.head import Head, quad_edges

SHELF, MARGIN, GAP = 0.115, 0.008, 0.012  # share of the square: height of the row below, border, space between islands
EVENNESS = 0.75  # 0: only scaled; 1: every strip gets texels by the area of its surface


def layout(head: Head, vertices: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """New coordinates [U, 2] for head.uv. vertices [n, 3]; importance [n]: texels per area, relative."""
    uv = head.uv.copy()
    edges = quad_edges(head.uv_quads)
    graph = sp.coo_matrix((np.ones(len(edges)), edges.T), shape=(len(uv),) * 2)
    _, island = scipy.sparse.csgraph.connected_components(graph, directed=False)
    sizes = np.bincount(island)
    area = _quad_areas(vertices, head.quads) * importance[head.quads].mean(1)
    main, *small = np.argsort(-sizes, kind="stable")
    own = island == main
    # The crown points to -u in the base layout, the right ear to +v or -v: turn the crown up, keep the handedness.
    turned = uv[:, ::-1] * [1, -1] if _right_ear_is_low(head, vertices, own) else uv[:, ::-1] * [-1, -1]
    strips = island[head.uv_quads[:, 0]] == main
    centre = turned[head.uv_quads[strips]].mean(1)
    low, high = (MARGIN, SHELF + 2 * GAP), (1 - MARGIN, 1 - MARGIN)
    for axis in range(2):
        uv[own, axis] = _stretched(turned[own, axis], centre[:, axis], area[strips], low[axis], high[axis])
    left = MARGIN
    for index in small:
        own = island == index
        lowest, extent = turned[own].min(0), np.ptp(turned[own], axis=0)
        scale = SHELF / max(extent[1], extent[0] / 1.4)
        uv[own] = (turned[own] - lowest) * scale + [left, MARGIN]
        left += scale * extent[0] + GAP
    if left > 1:
        raise ValueError(f"atlas: the small islands are {left:.2f} wide, the square has 1")
    return uv


def _stretched(values, centres, areas, low, high):
    """values mapped monotonically onto [low, high], steeper where there is more surface."""
    grid = np.linspace(values.min(), values.max(), 65)
    share = np.histogram(centres, grid, weights=areas)[0]
    share = np.convolve(np.pad(share, 4, mode="edge"), np.hanning(11)[1:-1], mode="valid")
    density = EVENNESS * share / share.sum() + (1 - EVENNESS) / len(share)
    place = np.append(0, np.cumsum(density)) / density.sum()
    return low + (high - low) * np.interp(values, grid, place)


def _right_ear_is_low(head, vertices, own):
    corner_vertex = np.zeros(len(head.uv), np.int64)
    corner_vertex[head.uv_quads] = head.quads
    return np.corrcoef(head.uv[own, 1], vertices[corner_vertex[own], 0])[0, 1] > 0


def _quad_areas(vertices, quads):
    a, b, c, d = (vertices[quads[:, k]] for k in range(4))
    return 0.5 * np.linalg.norm(np.cross(c - a, d - b), axis=1)
