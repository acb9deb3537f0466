"""Rounded surfaces, tangents and normal maps against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes import grid, octahedral_sphere

from sfm_jax.geometry.mesh import vertex_normals
from sfm_jax.morphable.default import load_default
from sfm_jax.render.dense import dense_mesh, dense_vertices
from sfm_jax.render.relief import rounded_vertices, tangent_normals, tangents, texel_map
from sfm_jax.render.renderer import surface
from sfm_jax.render.uv import displace, map_to_vertices, uv_layout

SPHERE, BALL = octahedral_sphere(24, 50.0)
SIDE = 40.0  # mm, of the square of UV space


def plane(mirrored=False):
    """A flat grid over UV space, facing z; mirrored: u runs towards -x."""
    sign = -1 if mirrored else 1
    vertices, triangles, uv = grid(6, 6, lambda uv: np.pad(SIDE * uv * [sign, 1], ((0, 0), (0, 1))), (0.1, 0.9),
                                   (0.1, 0.9))
    triangles = triangles[:, ::sign] if mirrored else triangles
    layout = uv_layout(surface(triangles, uv, triangles), 64)
    return jnp.asarray(vertices), layout, dense_mesh(layout)


def test_a_plane_stays_flat():
    vertices, layout, dense = plane()
    np.testing.assert_allclose(rounded_vertices(vertices, layout.triangles, dense),
                               dense_vertices(vertices, dense), atol=1e-4)


def test_a_sphere_becomes_rounder():
    layout = uv_layout(SPHERE, 64)
    dense = dense_mesh(layout)
    flat, rounded = (np.asarray(points) for points in (
        dense_vertices(jnp.asarray(BALL), dense), rounded_vertices(jnp.asarray(BALL), layout.triangles, dense)))
    off = [np.abs(np.linalg.norm(points, axis=1) - 50.0).mean() for points in (flat, rounded)]
    assert off[1] < 0.1 * off[0]
    np.testing.assert_array_equal(rounded_vertices(jnp.asarray(BALL), layout.triangles, dense, 0.0), flat)


def test_sides_are_shared():
    """Phong tessellation of a point on a side, by hand from the side's two ends."""
    face = load_default(0)
    layout = uv_layout(face.topology, 64)
    dense = dense_mesh(layout)
    rounded = np.asarray(rounded_vertices(face.mean, face.topology.triangles, dense), np.float64)
    normals, mean = np.asarray(vertex_normals(face.mean, face.topology.triangles)), np.asarray(face.mean)
    on_side = np.flatnonzero((dense.weights == 0).sum(1) == 1)
    assert len(on_side) > 50
    for vertex in on_side[::7]:
        used = dense.weights[vertex] > 0
        ends, share = dense.corners[vertex][used], dense.weights[vertex][used]
        point = share @ mean[ends]
        planes = [point - (point - mean[end]) @ normals[end] * normals[end] for end in ends]
        np.testing.assert_allclose(rounded[vertex], 0.5 * point + 0.5 * (share @ np.array(planes)), atol=1e-4)


@pytest.mark.parametrize("mirrored", [False, True])
def test_normal_map_of_a_height_field(mirrored):
    """Of z = h(u, v): n is along (-dh/du, -dh/dv, 1), whichever way the chart lies."""
    vertices, layout, dense = plane(mirrored)
    frame = tangents(vertices, layout, dense)
    np.testing.assert_allclose(frame.along_u, np.tile([-1.0 if mirrored else 1.0, 0, 0], (len(dense.corners), 1)),
                               atol=1e-5)
    row, column = np.mgrid[:64, :64]
    u, v = (column + 0.5) / 64 * SIDE, (1 - (row + 0.5) / 64) * SIDE
    height = jnp.asarray(np.sin(u / 4) + 0.5 * np.cos(v / 5), jnp.float32)
    base = rounded_vertices(vertices, layout.triangles, dense)
    fine = displace(base, dense.triangles, map_to_vertices(height[..., None], dense)[:, 0])
    normals = [vertex_normals(points, dense.triangles) for points in (fine, base)]
    found = np.asarray(texel_map(tangent_normals(*normals, frame), dense))
    expected = np.stack([-np.cos(u / 4) / 4, 0.1 * np.sin(v / 5), np.ones_like(u)], -1)
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    inside = np.zeros((64, 64), bool)
    inside[10:54, 10:54] = True
    np.testing.assert_allclose(found[inside], expected[inside], atol=0.02)


def test_where_both_surfaces_agree_the_normal_map_is_blue():
    face = load_default(0)
    layout = uv_layout(face.topology, 64)
    dense = dense_mesh(layout)
    normals = vertex_normals(rounded_vertices(face.mean, face.topology.triangles, dense), dense.triangles)
    found = np.asarray(tangent_normals(normals, normals, tangents(face.mean, layout, dense)))
    np.testing.assert_allclose(found, np.tile([0, 0, 1], (len(found), 1)), atol=1e-4)


def test_gradients_are_finite():
    face = load_default(0)
    dense = dense_mesh(uv_layout(face.topology, 64))
    gradient = jax.grad(lambda v: jnp.sum(rounded_vertices(v, face.topology.triangles, dense)**2))(face.mean)
    assert np.isfinite(gradient).all()
