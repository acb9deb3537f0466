"""Neighbourhoods on triangle meshes: host-side NumPy, computed once per topology."""

import numpy as np


def neighbour_table(triangles: np.ndarray, vertex_count: int) -> np.ndarray:
    """[V, n] int32: each vertex's edge neighbours, rising, padded by the vertex itself; n is the largest degree."""
    corners = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    directed = np.unique(np.concatenate([corners, corners[:, ::-1]]), axis=0)
    degree = np.bincount(directed[:, 0], minlength=vertex_count)
    start = np.concatenate([[0], np.cumsum(degree)[:-1]])
    slot = np.arange(len(directed)) - start[directed[:, 0]]
    table = np.repeat(np.arange(vertex_count, dtype=np.int32)[:, None], max(int(degree.max()), 1), axis=1)
    table[directed[:, 0], slot] = directed[:, 1]
    return table


def vertex_areas(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """[V] float64: a third of the area of the triangles at each vertex, in squared units of `vertices` [V, 3]."""
    corners = vertices[triangles].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    thirds = np.repeat(np.linalg.norm(normals, axis=1) / 6.0, 3)
    return np.bincount(triangles.ravel(), weights=thirds, minlength=len(vertices))
