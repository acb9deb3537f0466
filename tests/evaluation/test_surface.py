"""Shape distances against SciPy and known offsets."""

import chex
import jax
import numpy as np
from scipy.spatial.distance import cdist

from sfm_jax.evaluation import surface


def test_vertex_error_of_a_known_offset_in_one_region():
    truth = np.random.default_rng(0).normal(size=(2, 10, 3)).astype(np.float32)
    pred = truth.copy()
    pred[1, :5] += [3, 4, 0]
    chex.assert_trees_all_close(surface.vertex_error(pred, truth), np.array([0, 2.5], np.float32), atol=1e-5)
    region = np.arange(10) < 5
    error = jax.jit(surface.vertex_error)(pred, truth, region.astype(np.float32))
    chex.assert_trees_all_close(error, np.array([0, 5], np.float32), atol=1e-5)
    chex.assert_trees_all_close(surface.error_map(pred, truth), 2.5 * region, atol=1e-5)


def test_shape_distances_of_single_vertices_are_scipys():
    shapes = np.random.default_rng(0).normal(size=(6, 1, 3))
    np.testing.assert_allclose(surface.shape_distances(shapes), cdist(shapes[:, 0], shapes[:, 0]), atol=1e-12)


def test_shape_distances_weigh_the_vertices():
    shapes = np.zeros((2, 2, 3))
    shapes[1] = [[1, 0, 0], [0, 2, 0]]
    expected = np.array([[0, 1.25], [1.25, 0]])
    np.testing.assert_allclose(surface.shape_distances(shapes, np.array([3, 1])), expected)
