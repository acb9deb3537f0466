"""Distances between shapes in correspondence, in millimetres."""

import jax
import jax.numpy as jnp
import numpy as np


def vertex_distances(pred: jax.Array, truth: jax.Array) -> jax.Array:
    """Euclidean distance of corresponding vertices: [..., V, 3] twice to [..., V], in the shapes' unit."""
    return jnp.linalg.norm(pred - truth, axis=-1)


def vertex_error(pred: jax.Array, truth: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Weighted mean distance of corresponding vertices for each sample, [N, V, 3] twice to [N] mm.

    `weights` [V] are relative (vertex areas, a region mask); None is uniform.
    """
    return jnp.average(vertex_distances(pred, truth), axis=-1, weights=weights)


def error_map(pred: jax.Array, truth: jax.Array) -> jax.Array:
    """Mean distance of each vertex over the samples: [N, V, 3] twice to [V] mm."""
    return vertex_distances(pred, truth).mean(0)


def shape_distances(shapes: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Weighted mean vertex distance between every two of the shapes [N, V, 3]: symmetric [N, N] mm, on the host."""
    shapes = np.asarray(shapes)
    distances = np.zeros((len(shapes), len(shapes)))
    for i in range(len(shapes) - 1):
        per_vertex = np.sqrt(np.square(shapes[i + 1 :] - shapes[i]).sum(-1))
        distances[i, i + 1 :] = np.average(per_vertex, axis=1, weights=weights)
    return distances + distances.T
