"""Smooth fields over meshes against closed forms and a dense solution."""

import numpy as np
import scipy.sparse
import trimesh

from sfm_jax.geometry.smooth_field import curvature_matrix, place_matrix, smooth_field, umbrella_matrix


def hexagons(side):
    """An even triangulation of a plane and which of its vertices are inside."""
    i, j = np.meshgrid(np.arange(9), np.arange(9), indexing="ij")
    vertices = side * np.column_stack([(i + j / 2).ravel(), (j * np.sqrt(0.75)).ravel(), np.zeros(81)])
    corner = (i[:-1, :-1] * 9 + j[:-1, :-1]).ravel()
    triangles = np.concatenate([np.column_stack([corner, corner + 9, corner + 1]),
                                np.column_stack([corner + 9, corner + 10, corner + 1])])
    inside = ((i > 0) & (i < 8) & (j > 0) & (j < 8)).ravel()
    return vertices, triangles, inside


def test_the_umbrella_is_a_value_less_its_neighbours_mean():
    mesh = trimesh.creation.icosphere(subdivisions=1)
    values = np.random.default_rng(0).normal(size=(len(mesh.vertices), 2))
    expected = [values[k] - values[list(near)].mean(0) for k, near in enumerate(mesh.vertex_neighbors)]
    np.testing.assert_allclose(umbrella_matrix(mesh.faces, len(values)) @ values, expected, atol=1e-12)


def test_the_curvature_of_a_quadratic_field_does_not_depend_on_the_mesh():
    for side in (0.5, 4.0):
        vertices, triangles, inside = hexagons(side)
        x, y, _ = vertices.T
        field = 0.3 * x**2 + 0.1 * x * y - 0.05 * y**2 + 7 * x
        found = curvature_matrix(vertices, triangles) @ field
        np.testing.assert_allclose(found[inside], -(0.6 - 0.1), atol=1e-9)


def test_the_field_is_the_least_squares_one():
    vertices, triangles, _ = hexagons(1.0)
    rng = np.random.default_rng(0)
    which, barycentric = rng.integers(len(triangles), size=20), rng.dirichlet(np.ones(3), 20)
    places = place_matrix(triangles, which, barycentric, len(vertices))
    np.testing.assert_allclose(places @ vertices, np.einsum("nk,nkc->nc", barycentric, vertices[triangles[which]]))
    targets, weights, laplacian = rng.normal(size=(20, 3)), rng.uniform(size=20), umbrella_matrix(triangles, 81)
    found = smooth_field(places, targets, weights, laplacian, 2.0, 0.1)
    rows = np.concatenate([np.sqrt(weights)[:, None] * places.toarray(), np.sqrt(2.0) * laplacian.toarray(),
                           np.sqrt(0.1) * np.eye(81)])
    right = np.concatenate([np.sqrt(weights)[:, None] * targets, np.zeros((162, 3))])
    np.testing.assert_allclose(found, np.linalg.lstsq(rows, right, rcond=None)[0], atol=1e-8)


def test_without_stiffness_it_passes_through_what_is_known():
    vertices, triangles, _ = hexagons(1.0)
    values = np.random.default_rng(0).normal(size=(81, 1))
    everywhere = scipy.sparse.identity(81, format="csr")
    found = smooth_field(everywhere, values, np.ones(81), umbrella_matrix(triangles, 81), 0)
    np.testing.assert_allclose(found, values, atol=1e-12)
