"""Catmull-Clark subdivision as a sparse matrix: one matrix refines every shape, basis column and mask of a mesh.

Rows are the old vertices (moved to the limit scheme's new places), then one per edge, then one per quad, so that the
coarse level of the model is the first n rows of the fine one. Boundaries are cubic B-splines.
"""

import numpy as np
import scipy.sparse as sp

from experiments.default_model.head import quad_edges


def catmull_clark(quads: np.ndarray, count: int, fixed: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray]:
    """The matrix [n + edges + quads, n] and the fine quads [4 Q, 4]. `fixed` [n] bool: old vertices that stay."""
    edges, edge, faces_at_edge = _unique_edges(quads)
    boundary = faces_at_edge == 1
    face_point = _averages(quads, count)
    end_point = _averages(edges, count)
    face_of_edge = sp.csr_matrix((1 / faces_at_edge[edge], (edge, np.tile(np.arange(len(quads)), 4))))
    edge_point = _rows(np.where(boundary, 1.0, 0.5)) @ end_point
    edge_point = edge_point + _rows(np.where(boundary, 0.0, 0.5)) @ face_of_edge @ face_point
    valence = np.bincount(quads.ravel(), minlength=count)
    inner = _rows(1 / valence) @ (_mean_over(quads, count) @ face_point + 2 * _mean_over(edges, count) @ end_point)
    inner = inner + _rows((valence - 3) / valence)
    rim = edges[boundary]
    beside = sp.csr_matrix((np.full(rim.size, 0.125), (rim.ravel(), rim[:, ::-1].ravel())), shape=(count, count))
    outer = _rows(1 - 0.125 * np.bincount(rim.ravel(), minlength=count)) + beside
    on_rim = np.zeros(count, bool)
    on_rim[rim] = True
    kinds = ((~on_rim & ~fixed, inner), (on_rim & ~fixed, outer), (fixed, sp.identity(count)))
    old = sum(_rows(mask.astype(float)) @ matrix for mask, matrix in kinds)
    return sp.vstack([old, edge_point, face_point]).tocsr(), _split(quads, edge, count, len(edges))


def linear(quads: np.ndarray, count: int) -> tuple[sp.csr_matrix, np.ndarray]:
    """The same refinement without smoothing, for texture coordinates."""
    edges, edge, _ = _unique_edges(quads)
    matrix = sp.vstack([sp.identity(count), _averages(edges, count), _averages(quads, count)]).tocsr()
    return matrix, _split(quads, edge, count, len(edges))


def relax_border(matrix: sp.csr_matrix, quads: np.ndarray, free: np.ndarray, sweeps: int = 12) -> sp.csr_matrix:
    """Smooth the border polygon along itself, where `free` [rows]: cuts through quads leave waves."""
    edges, _, faces_at_edge = _unique_edges(quads)
    rim = edges[faces_at_edge == 1]
    rim = rim[free[rim].all(1)]
    beside = sp.csr_matrix((np.ones(rim.size), (rim.ravel(), rim[:, ::-1].ravel())), shape=(matrix.shape[0],) * 2)
    inside = np.asarray(beside.sum(1)).ravel() == 2
    step = _rows(np.where(inside, 0.5, 1.0)) + _rows(np.where(inside, 0.25, 0.0)) @ beside
    for _ in range(sweeps):
        matrix = step @ matrix
    return matrix.tocsr()


def triangulate(quads: np.ndarray) -> np.ndarray:
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)


def _unique_edges(quads):
    edges, edge, count = np.unique(quad_edges(quads), axis=0, return_inverse=True, return_counts=True)
    return edges, edge.ravel(), count


def _averages(cells, count):
    """Row i is the mean of the vertices of cell i."""
    size = cells.shape[1]
    return sp.csr_matrix((np.full(cells.size, 1 / size), (np.repeat(np.arange(len(cells)), size), cells.ravel())),
                         shape=(len(cells), count))


def _mean_over(cells, count):
    """Row v is the mean over the cells that touch vertex v."""
    touching = np.bincount(cells.ravel(), minlength=count)
    vertex, cell = cells.ravel(), np.repeat(np.arange(len(cells)), cells.shape[1])
    return sp.csr_matrix((1 / touching[vertex], (vertex, cell)), shape=(count, len(cells)))


def _rows(scale):
    return sp.diags(scale)


def _split(quads, edge, count, edge_count):
    edge = edge.reshape(4, -1)
    middle = count + edge_count + np.arange(len(quads))
    return np.concatenate([np.stack([quads[:, k], count + edge[k], middle, count + edge[k - 1]], 1) for k in range(4)])
