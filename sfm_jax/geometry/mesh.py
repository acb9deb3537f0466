"""Triangle meshes: normals (jax.numpy, differentiable) and edge lists (NumPy, once per topology)."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sfm_jax.array_types import Triangles, Vertices
from sfm_jax.geometry.vector import cross, normalise


class Edges(NamedTuple):
    """Undirected edges of a mesh: vertices [E, 2] int32 (smaller first), faces [E, 2] int32 (-1: none)."""

    vertices: Int[np.ndarray, "E 2"]
    faces: Int[np.ndarray, "E 2"]


def triangle_normals(vertices: Vertices, triangles: Triangles) -> Float[Array, "*batch F 3"]:
    """Cross products [..., F, 3] of the triangles' sides: outward for counter-clockwise triangles, twice the area long.

    vertices [..., V, 3], triangles [F, 3]. Normalise for unit normals; a collapsed triangle gives zero.
    """
    a, b, c = (vertices[..., triangles[:, k], :] for k in range(3))
    return cross(b - a, c - a)


def vertex_normals(vertices: Vertices, triangles: Triangles) -> Float[Array, "*batch V 3"]:
    """Unit normals [..., V, 3], area-weighted (Gouraud 1971); zero where no triangle gives one, never NaN."""
    return normalise(_accumulate(triangle_normals(vertices, triangles), triangles, vertices.shape[-2]))


def vertex_areas(vertices: Vertices, triangles: Triangles) -> Float[Array, "*batch V"]:
    """[..., V]: a third of the area of the triangles at each vertex, in squared units of `vertices`."""
    normals = triangle_normals(vertices, triangles)
    squared = jnp.sum(normals**2, -1, keepdims=True)
    collapsed = squared == 0
    thirds = jnp.where(collapsed, 0.0, jnp.sqrt(jnp.where(collapsed, 1.0, squared)) / 6)
    return _accumulate(thirds, triangles, vertices.shape[-2])[..., 0]


def edge_list(triangles: Triangles) -> Edges:
    """Every edge with the one or two faces beside it.

    An edge of three or more faces (not a manifold) appears once for each pair of faces in rising order, the last
    alone if their number is odd, so that no face is lost.
    """
    triangles = np.asarray(triangles)
    sides = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), 1)
    face = np.tile(np.arange(len(triangles)), 3)
    order = np.lexsort((face, sides[:, 1], sides[:, 0]))
    sides, face = sides[order], face[order]
    fresh = np.ones(len(sides), bool)
    fresh[1:] = (sides[1:] != sides[:-1]).any(1)
    start = np.maximum.accumulate(np.where(fresh, np.arange(len(sides)), 0))
    first = np.flatnonzero((np.arange(len(sides)) - start) % 2 == 0)
    after = np.minimum(first + 1, len(sides) - 1)
    paired = (after > first) & (start[after] == start[first])
    faces = np.stack([face[first], np.where(paired, face[after], -1)], 1)
    return Edges(sides[first].astype(np.int32), faces.astype(np.int32))


def _accumulate(values, triangles, vertex_count):
    """Sum of face values [..., F, n] at each vertex, [..., V, n]."""
    zeros = jnp.zeros((*values.shape[:-2], vertex_count, values.shape[-1]), values.dtype)
    return zeros.at[..., triangles, :].add(values[..., :, None, :])
