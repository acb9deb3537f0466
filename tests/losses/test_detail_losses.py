"""The losses of learned detail against direct transcriptions of their formulas."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads

from sfm_jax.geometry.adjacency import face_table, neighbour_table
from sfm_jax.losses import detail

MESH = trimesh.creation.icosphere(subdivisions=2, radius=3.0)
NUMBERS = st.floats(-8, 8, width=32)


def transcribed_roughness(values, lists, zone):
    excess = [max(0.0, np.linalg.norm(values[i] - np.mean(values[list(near)], 0)) - zone)
              for i, near in enumerate(lists)]
    return np.mean(excess)


@settings(deadline=None, max_examples=30)
@given(arrays(np.float32, (5, 6), elements=NUMBERS), arrays(np.bool_, (5, 6)))
def test_capped_square(values, mask):
    chosen = values[mask].astype(np.float64)
    expected = np.mean(np.minimum(chosen**2, 10)) if mask.any() else 0
    found = float(detail.capped_square(values, jnp.asarray(mask, jnp.float32)))
    assert found == pytest.approx(expected, abs=1e-6, rel=1e-6)


@settings(deadline=None, max_examples=30)
@given(arrays(np.float32, (5, 7), elements=NUMBERS), arrays(np.bool_, (5, 7)))
def test_map_roughness(displacement, mask):
    expected, d = 0.0, np.float64(displacement)
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        squares = [(d[i, j] - d[i + down, j + right])**2 for i in range(5) for j in range(7)
                   if i + down < 5 and 0 <= j + right < 7 and mask[i, j] and mask[i + down, j + right]]
        expected += np.mean(squares) if squares else 0
    found = float(detail.map_roughness(jnp.asarray(displacement), jnp.asarray(mask, jnp.float32)))
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_normal_distance():
    rng = np.random.default_rng(1)
    normals, true = rng.normal(size=(2, 4, 5, 3))
    normals, true = (values / np.linalg.norm(values, axis=-1, keepdims=True) for values in (normals, true))
    true[0], mask = 0, rng.uniform(size=(4, 5))  # of the first row nothing is known
    lengths = [mask[i, j] * np.linalg.norm(normals[i, j] - true[i, j]) for i in range(1, 4) for j in range(5)]
    found = float(detail.normal_distance(*(jnp.asarray(values, jnp.float32) for values in (normals, true, mask))))
    assert found == pytest.approx(sum(lengths) / mask[1:].sum(), rel=1e-6)
    same = jnp.asarray(true, jnp.float32)
    value, slope = jax.value_and_grad(detail.normal_distance)(same, same, jnp.ones((4, 5)))
    assert value == 0 and np.isfinite(slope).all()
    assert detail.normal_distance(same, jnp.zeros_like(same), jnp.ones((4, 5))) == 0


@pytest.mark.parametrize("zone", [0.0, 0.05, 0.2])
def test_roughness_of_vertices(zone):
    rng = np.random.default_rng(0)
    vertices = np.float32(MESH.vertices + rng.normal(0, 0.1, MESH.vertices.shape))
    table = neighbour_table(MESH.faces, len(vertices))
    found = float(detail.roughness(jnp.asarray(vertices), table, zone))
    assert found == pytest.approx(transcribed_roughness(np.float64(vertices), MESH.vertex_neighbors, zone), abs=1e-6)


def test_roughness_of_triangle_normals():
    beside = [[] for _ in MESH.faces]
    for a, b in MESH.face_adjacency:
        beside[a].append(b)
        beside[b].append(a)
    table = face_table(np.asarray(MESH.faces))
    chex.assert_shape(table, (len(MESH.faces), 3))
    found = float(detail.roughness(jnp.asarray(MESH.face_normals, jnp.float32), table, 1e-4))
    assert found == pytest.approx(transcribed_roughness(MESH.face_normals, beside, 1e-4), abs=1e-6)


def test_an_open_edge_has_fewer_neighbours():
    table = face_table(np.array([[0, 1, 2], [2, 1, 3]]))
    np.testing.assert_array_equal(table, [[1], [0]])


def test_within_the_dead_zone_and_beyond_the_cap_nothing_pulls():
    vertices = jnp.asarray(MESH.vertices, jnp.float32)
    table = neighbour_table(MESH.faces, len(vertices))
    assert float(detail.roughness(vertices, table, 5.0)) == 0
    assert not np.any(jax.grad(detail.roughness)(vertices, table, 5.0))
    assert np.all(np.isfinite(jax.grad(detail.roughness)(jnp.zeros_like(vertices), table, 0.0)))
    gradient = jax.grad(lambda x: detail.capped_square(x, jnp.ones(2)))(jnp.array([1.0, 4.0]))
    np.testing.assert_allclose(gradient, [1.0, 0.0])


def test_gradients_are_finite_differences():
    rng = np.random.default_rng(1)
    table = neighbour_table(MESH.faces, len(MESH.vertices))
    vertices = jnp.asarray(MESH.vertices + rng.normal(0, 0.3, MESH.vertices.shape), jnp.float32)
    check_grads(lambda v: detail.roughness(v, table, 0.02), (vertices,), 1, ["rev"], atol=2e-2, rtol=2e-2, eps=1e-2)
    mask = jnp.asarray(rng.random((6, 6)) < 0.7, jnp.float32)
    values = jnp.asarray(rng.normal(size=(6, 6)), jnp.float32)
    check_grads(lambda d: detail.map_roughness(d, mask), (values,), 1, ["rev"], atol=1e-2, rtol=1e-2)
    check_grads(lambda d: detail.capped_square(d, mask), (values,), 1, ["rev"], atol=1e-2, rtol=1e-2)


def test_what_is_masked_out_has_no_gradient_even_if_it_is_no_number():
    values, mask = jnp.array([2.0, jnp.nan]), jnp.array([True, False])
    np.testing.assert_array_equal(jax.grad(lambda x: detail.capped_square(x, mask))(values), [4, 0])
