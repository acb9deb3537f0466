import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from sfm_jax.geometry.adjacency import face_table
from sfm_jax.geometry.mesh import edge_list, triangle_normals, vertex_areas, vertex_normals


@pytest.fixture
def torus():
    mesh = trimesh.creation.torus(60, 25, major_sections=14, minor_sections=9)
    mesh.vertices += np.random.default_rng(0).normal(0, 2, mesh.vertices.shape)
    return mesh


def test_normals_and_areas_are_trimeshs(torus):
    vertices, triangles = np.asarray(torus.vertices, np.float32), np.asarray(torus.faces)
    normals = np.asarray(triangle_normals(vertices, triangles), np.float64)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    np.testing.assert_allclose(normals / length, torus.face_normals, atol=1e-4)
    np.testing.assert_allclose(length[:, 0] / 2, torus.area_faces, rtol=1e-4)
    weights = torus.area_faces[:, None] * torus.face_normals
    corner = triangles.ravel()
    expected = np.stack([np.bincount(corner, np.repeat(weights[:, k], 3), len(vertices)) for k in range(3)], 1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vertex_normals(vertices, triangles), expected, atol=1e-4)
    share = np.bincount(triangles.ravel(), np.repeat(torus.area_faces / 3, 3), len(vertices))
    np.testing.assert_allclose(vertex_areas(vertices, triangles), share, rtol=1e-4)


def test_normals_of_a_sphere_point_outward():
    ball = trimesh.creation.icosphere(subdivisions=3)
    found = vertex_normals(np.asarray(ball.vertices, np.float32), ball.faces)
    np.testing.assert_allclose(found, ball.vertices, atol=0.02)


def test_batches_are_loops(torus):
    vertices = np.stack([torus.vertices, 2 * torus.vertices, -torus.vertices]).astype(np.float32)
    for function in (vertex_normals, vertex_areas, triangle_normals):
        batched = function(vertices, torus.faces)
        for one, shape in zip(batched, vertices, strict=True):
            np.testing.assert_allclose(one, function(shape, torus.faces), rtol=1e-4, atol=1e-4)


def test_gradient_of_total_area_is_a_finite_difference(torus):
    vertices = np.asarray(torus.vertices, np.float32)
    gradient = jax.grad(lambda v: jnp.sum(vertex_areas(v, torus.faces)))(vertices)
    direction = np.random.default_rng(1).normal(size=vertices.shape)

    def area(amount):
        return trimesh.Trimesh(torus.vertices + amount * direction, torus.faces, process=False).area

    assert np.vdot(gradient, direction) == pytest.approx((area(1e-3) - area(-1e-3)) / 2e-3, rel=1e-3)


def test_collapsed_triangles_give_zero_and_finite_gradients():
    vertices = jnp.zeros((4, 3)).at[3].set(1.0)
    triangles = np.array([[0, 1, 2], [0, 1, 3]])
    for function in (vertex_normals, vertex_areas):
        np.testing.assert_array_equal(function(vertices, triangles), 0.0)
        gradient = jax.grad(lambda v, f=function: jnp.sum(f(v, triangles)))(vertices)
        assert np.isfinite(np.asarray(gradient)).all()


def test_edges_are_trimeshs(torus):
    edges = edge_list(torus.faces)
    expected = trimesh.Trimesh(torus.vertices, torus.faces, process=False)
    assert {tuple(e) for e in edges.vertices} == {tuple(e) for e in np.sort(expected.edges_unique, 1)}
    assert len(edges.vertices) == len(expected.edges_unique)
    order = np.lexsort(np.sort(expected.face_adjacency_edges, 1).T[::-1])
    found = np.sort(edges.faces, 1)[np.lexsort(edges.vertices.T[::-1])]
    np.testing.assert_array_equal(found, np.sort(expected.face_adjacency, 1)[order])


def test_borders_have_one_face_and_no_face_of_a_fan_is_lost():
    edges = edge_list(np.array([[0, 1, 2]]))
    assert (edges.faces[:, 1] == -1).all() and len(edges.vertices) == 3
    fan = np.array([[0, 1, 2], [1, 0, 3], [0, 1, 4]])  # three faces at edge 0 1
    edges = edge_list(fan)
    shared = edges.faces[(edges.vertices == [0, 1]).all(1)]
    np.testing.assert_array_equal(shared, [[0, 1], [2, -1]])
    assert edges.vertices.dtype == edges.faces.dtype == np.int32
    np.testing.assert_array_equal(face_table(fan), [[1, 2], [0, 2], [0, 1]])
