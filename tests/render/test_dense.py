"""Dense meshes of UV layouts: their borders, areas and samples, by trimesh and closed form."""

import jax.numpy as jnp
import numpy as np
import pytest
import scenes
import trimesh

from sfm_jax.morphable.default import load_default
from sfm_jax.render.dense import dense_mesh, dense_vertices
from sfm_jax.render.renderer import surface
from sfm_jax.render.uv import displace, map_to_vertices, uv_layout, vertices_to_map

FACE = load_default(0)
LAYOUT = uv_layout(FACE.topology, 128)
MEAN = np.asarray(FACE.mean, np.float64)
SPHERE, BALL = scenes.octahedral_sphere(24, 50.0)


def outline(triangles):
    """Euler characteristic, border sides [B, 2] by trimesh; every side belongs to one or two triangles."""
    mesh = trimesh.Trimesh(np.zeros((triangles.max() + 1, 3)), triangles, process=False)
    sides, count = np.unique(mesh.edges_sorted, axis=0, return_counts=True)
    assert count.max() <= 2 and mesh.is_winding_consistent
    return len(np.unique(triangles)) - len(sides) + len(triangles), sides[count == 1]


def loops(sides):
    return len(trimesh.graph.connected_components(sides))


def length(sides, vertices):
    return np.linalg.norm(vertices[sides[:, 0]] - vertices[sides[:, 1]], axis=1).sum()


@pytest.mark.parametrize("size", [64, 128])
def test_dense_face_has_the_borders_of_the_face_and_no_others(size):
    dense = dense_mesh(uv_layout(FACE.topology, size))
    vertices = np.asarray(dense_vertices(FACE.mean, dense), np.float64)
    (euler, sides), (dense_euler, dense_sides) = outline(FACE.topology.triangles), outline(dense.triangles)
    assert dense_euler == euler and loops(dense_sides) == loops(sides) == 5
    np.testing.assert_allclose(length(dense_sides, vertices), length(sides, MEAN), rtol=1e-5)
    assert len(np.unique(dense.triangles)) == len(vertices) == dense.vertex_count
    assert len(dense.texel) > (0.93 if size == 64 else 0.96) * uv_layout(FACE.topology, size).mask.sum()

    original = trimesh.Trimesh(MEAN, FACE.topology.triangles, process=False)
    fine = trimesh.Trimesh(vertices, dense.triangles, process=False)
    assert 1 - fine.area / original.area < (0.05 if size == 64 else 0.025)
    source = uv_layout(FACE.topology, size).triangle.reshape(-1)[dense.texel]
    cosine = np.sum(fine.vertex_normals[:len(dense.texel)] * original.face_normals[source], 1)
    assert np.median(cosine) > 0.99 and np.mean(cosine > 0.5) > 0.98


def test_dense_sphere_is_closed_and_smooth():
    layout = uv_layout(SPHERE, 64)
    dense = dense_mesh(layout)
    vertices = np.asarray(dense_vertices(BALL, dense), np.float64)
    euler, sides = outline(dense.triangles)
    assert euler == 2 and len(sides) == 0
    ball = trimesh.Trimesh(vertices, dense.triangles, process=False)
    coarse = trimesh.Trimesh(BALL, SPHERE.triangles, process=False)
    assert ball.is_watertight and abs(ball.volume / coarse.volume - 1) < 0.005
    assert abs(ball.area / coarse.area - 1) < 0.005
    # All but the triangles where the square's border turns back upon itself, which are tiny.
    radial = np.sum(ball.face_normals * vertices[dense.triangles[:, 0]], 1) / 50
    assert ball.area_faces[radial > 0.97].sum() > 0.998 * ball.area
    offsets = map_to_vertices(jnp.full((64, 64, 1), 2.0), dense)[:, 0]
    moved = displace(jnp.asarray(vertices, jnp.float32), dense.triangles, offsets)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1) - np.linalg.norm(vertices, axis=1), 2, atol=0.01)


def test_dense_vertices_sample_their_own_texel():
    dense = dense_mesh(LAYOUT)
    noise = np.random.default_rng(0).random((128, 128, 2)).astype(np.float32)
    found = np.asarray(map_to_vertices(noise, dense))
    np.testing.assert_allclose(found[:len(dense.texel)], noise.reshape(-1, 2)[dense.texel], atol=1e-6)
    position = vertices_to_map(FACE.mean, LAYOUT).reshape(-1, 3)[dense.texel]
    np.testing.assert_allclose(dense_vertices(FACE.mean, dense)[:len(dense.texel)], position, atol=1e-4)
    np.testing.assert_allclose(map_to_vertices(jnp.ones((128, 128, 1)), dense), 1, atol=1e-5)


def test_mirrored_and_touching_charts():
    """Two squares that share a side in UV space and not in space, one of them mirrored."""
    left, triangles, uv = scenes.grid(3, 3, scenes.plane, x=(0.1, 0.5))
    right, _, other = scenes.grid(3, 3, scenes.plane, x=(0.9, 0.5))
    mesh = surface(np.concatenate([triangles, triangles + 16]), np.concatenate([uv, other]))
    layout = uv_layout(mesh, 32)
    dense = dense_mesh(layout)
    vertices = np.concatenate([left, right + [0, 0, 40]])
    found = trimesh.Trimesh(dense_vertices(vertices, dense), dense.triangles, process=False)
    original = trimesh.Trimesh(vertices, mesh.triangles, process=False)
    assert outline(dense.triangles)[0] == outline(mesh.triangles)[0] == 2
    np.testing.assert_allclose(found.area, original.area, rtol=1e-5)
    np.testing.assert_allclose(found.area_faces @ found.face_normals, original.area_faces @ original.face_normals,
                               atol=1e-2)


def test_borders_that_almost_touch_stay_apart():
    """A tooth whose tip hangs a hundredth of a texel above the middle of a piece of the border below."""
    uv = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.4], [0.3, 0.4], [0.1, 0.4], [0.1, 0.7], [0.3, 0.7], [0.1, 0.9],
                   [0.3, 0.9], [0.5, 0.9], [0.5, 0.7], [0.435, 0.4003]])
    triangles = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [4, 3, 6], [4, 6, 5], [5, 6, 8], [5, 8, 7], [6, 10, 9],
                          [6, 9, 8], [6, 11, 10]])
    vertices = np.pad(uv, ((0, 0), (0, 1)))
    dense = dense_mesh(uv_layout(surface(triangles, uv), 32))
    found = np.asarray(dense_vertices(vertices, dense), np.float64)
    euler, sides = outline(dense.triangles)
    assert euler == 1 and loops(sides) == 1
    np.testing.assert_allclose(length(sides, found), length(outline(triangles)[1], vertices), rtol=1e-5)
    np.testing.assert_allclose(trimesh.Trimesh(found, dense.triangles, process=False).area,
                               trimesh.Trimesh(vertices, triangles, process=False).area, rtol=1e-5)


def test_a_chart_that_overlaps_itself_is_refused():
    winding = np.linspace(0, 4 * np.pi, 49)  # two turns of a ribbon, the second over the first
    ring = np.stack([np.cos(winding), np.sin(winding)], 1)
    uv = np.concatenate([0.5 + 0.45 * ring, 0.5 + 0.25 * ring + 0.01 * winding[:, None] / 13])
    a = np.arange(48)
    triangles = np.concatenate([np.stack([a, a + 1, a + 49], 1), np.stack([a + 1, a + 50, a + 49], 1)])
    with pytest.raises(ValueError, match="overlaps itself|cross or coincide"):
        dense_mesh(uv_layout(surface(triangles, uv.clip(0, 1)), 32))
