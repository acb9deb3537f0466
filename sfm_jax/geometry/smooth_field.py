"""Smooth fields over a mesh that follow what is known at some of its places: sparse least squares, host side."""

import numpy as np
import scipy.sparse
from jaxtyping import Float, Integer
from scipy.sparse.linalg import splu

from sfm_jax.geometry.mesh import edge_list


def umbrella_matrix(triangles: Integer[np.ndarray, "F 3"], vertex_count: int) -> scipy.sparse.csr_matrix:
    """[V, V]: a vertex's value less the mean of its neighbours' (Taubin 1995); zero where there are none."""
    edges = np.unique(edge_list(triangles).vertices, axis=0)
    adjacent = scipy.sparse.coo_matrix((np.ones(len(edges)), edges.T), shape=(vertex_count, vertex_count)).tocsr()
    adjacent = adjacent + adjacent.T
    degree = np.asarray(adjacent.sum(1)).ravel()
    used = scipy.sparse.diags((degree > 0).astype(float))
    return (used - scipy.sparse.diags(1 / np.maximum(degree, 1)) @ adjacent).tocsr()


def curvature_matrix(
    vertices: Float[np.ndarray, "V 3"], triangles: Integer[np.ndarray, "F 3"]
) -> scipy.sparse.csr_matrix:
    """[V, V]: about minus the Laplacian, per squared unit of vertices [V, 3], of a field, whatever the mesh's density:
    `umbrella_matrix` times 4 over the mean square of a vertex's edges. Exact for quadratic fields on even meshes."""
    edges = np.unique(edge_list(triangles).vertices, axis=0)
    squared = np.repeat(np.square(vertices[edges[:, 0]] - vertices[edges[:, 1]]).sum(1), 2)
    total, count = (np.bincount(edges.ravel(), x, len(vertices)) for x in (squared, np.ones(len(squared))))
    factor = np.divide(4 * count, total, out=np.zeros(len(vertices)), where=total > 0)
    return (scipy.sparse.diags(factor) @ umbrella_matrix(triangles, len(vertices))).tocsr()


def place_matrix(
    triangles: Integer[np.ndarray, "F 3"], which: Integer[np.ndarray, " N"], barycentric: Float[np.ndarray, "N 3"],
    vertex_count: int,
) -> scipy.sparse.csr_matrix:
    """[N, V]: of values at the vertices, those at the points `barycentric` [N, 3] of the triangles `which` [N]."""
    corners = np.asarray(triangles)[which]
    return scipy.sparse.csr_matrix((barycentric.ravel(), corners.ravel(), np.arange(0, corners.size + 1, 3)),
                                   shape=(len(corners), vertex_count))


def smooth_field(
    places: scipy.sparse.spmatrix, targets: Float[np.ndarray, "N C"], weights: Float[np.ndarray, " N"],
    laplacian: scipy.sparse.spmatrix, stiffness: float, anchor: float = 0.0,
) -> Float[np.ndarray, "V C"]:
    """The field f [V, C] of least sum_n w_n |(places f - targets)_n|^2 + stiffness |laplacian f|^2 + anchor |f|^2.

    Args:
      places: [N, V], as of `place_matrix`.
      targets: [N, C] wanted there.
      weights: [N] non-negative.
      laplacian: [V, V], as of `umbrella_matrix`.
      stiffness: of the field, >= 0.
      anchor: pull to zero; > 0 wherever a part of the mesh has no targets, else that part has no unique answer.
    """
    weighted = places.multiply(np.asarray(weights)[:, None]).tocsr()
    matrix = weighted.T @ places + stiffness * laplacian.T @ laplacian
    matrix = matrix + anchor * scipy.sparse.identity(matrix.shape[0])
    return splu(matrix.tocsc()).solve(weighted.T @ targets)
