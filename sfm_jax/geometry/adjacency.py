"""Neighbourhoods on triangle meshes: host-side NumPy, computed once per topology."""

import numpy as np
from jaxtyping import Float, Int, Integer


def neighbour_table(triangles: Integer[np.ndarray, "F 3"], vertex_count: int) -> Int[np.ndarray, "{vertex_count} n"]:
    """[V, n] int32: each vertex's edge neighbours, rising, padded by the vertex itself; n is the largest degree."""
    return pair_table(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), vertex_count)


def face_table(triangles: Integer[np.ndarray, "F 3"]) -> Int[np.ndarray, "F n"]:
    """[F, n] int32: the triangles that share a side with each of triangles [F, 3], rising, padded by itself."""
    sides = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), 1)
    side = np.unique(sides, axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(side, kind="stable")
    face, side = np.tile(np.arange(len(triangles)), 3)[order], side[order]
    # Of three triangles at one side, which is no manifold, each has two neighbours there.
    most = int(np.bincount(side).max(initial=1))
    pairs = [np.stack([face[:-step], face[step:]], 1)[side[:-step] == side[step:]] for step in range(1, most)]
    return pair_table(np.concatenate([np.empty((0, 2), int), *pairs]), len(triangles))


def pair_table(pairs: Integer[np.ndarray, "N 2"], count: int) -> Int[np.ndarray, "{count} n"]:
    """[count, n] int32: what each of `count` things is paired with in pairs [N, 2], rising, padded by itself."""
    directed = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    degree = np.bincount(directed[:, 0], minlength=count)
    start = np.concatenate([[0], np.cumsum(degree)[:-1]])
    slot = np.arange(len(directed)) - start[directed[:, 0]]
    table = np.repeat(np.arange(count, dtype=np.int32)[:, None], max(int(degree.max()), 1), axis=1)
    table[directed[:, 0], slot] = directed[:, 1]
    return table


def vertex_areas(vertices: Float[np.ndarray, "V 3"], triangles: Integer[np.ndarray, "F 3"]) -> Float[np.ndarray, " V"]:
    """[V] float64: a third of the area of the triangles at each vertex, in squared units of `vertices` [V, 3]."""
    corners = vertices[triangles].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    thirds = np.repeat(np.linalg.norm(normals, axis=1) / 6.0, 3)
    return np.bincount(triangles.ravel(), weights=thirds, minlength=len(vertices))
