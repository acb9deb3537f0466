import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse, stats

from sfm_jax.geometry.adjacency import neighbour_table, vertex_areas
from sfm_jax.losses import basis, distribution, surface


def test_kl_is_the_gaussian_divergence_by_monte_carlo():
    mean, sd = np.array([0.3, -0.5]), np.array([0.7, 1.4])
    samples = mean + sd * np.random.default_rng(0).normal(size=(400_000, 2))
    log_ratio = stats.norm(mean, sd).logpdf(samples) - stats.norm(0, 1).logpdf(samples)
    assert float(distribution.moments_kl(mean, sd**2)) == pytest.approx(log_ratio.sum(1).mean(), rel=1e-2)
    assert float(distribution.moments_kl(np.zeros(3), np.full(3, 4.0), sigma=2.0)) == pytest.approx(0.0, abs=1e-6)


def test_batch_moments_over_devices_are_those_of_the_whole_batch():
    codes = np.random.default_rng(1).normal(2.0, 3.0, (4, 8, 5)).astype(np.float32)
    mean, variance = jax.vmap(lambda c: distribution.batch_moments(c, "data"), axis_name="data")(codes)
    whole = codes.reshape(32, 5)
    np.testing.assert_allclose(mean[0], whole.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance[3], whole.var(0), rtol=1e-4)


def test_sphere_penalty():
    codes = jnp.array([[3.0, 4.0], [0.0, 2.0]])
    np.testing.assert_allclose(distribution.sphere_penalty(codes, 5.0), [0.0, 0.36], atol=1e-6)


def test_vertex_distances():
    truth = np.zeros((2, 3, 3), np.float32)
    prediction = truth + np.array([3.0, 4.0, 0.0], np.float32)
    weights = np.array([0.5, 0.25, 0.25], np.float32)
    np.testing.assert_allclose(surface.vertex_distance(prediction, truth, weights), 5.0, rtol=1e-6)
    np.testing.assert_allclose(surface.vertex_squared_distance(prediction, truth, weights), 25.0, rtol=1e-6)
    gradient = jax.grad(lambda p: surface.vertex_distance(p, truth, weights).sum())(jnp.asarray(truth))
    assert np.isfinite(np.asarray(gradient)).all()


def test_smoothness_is_the_sparse_laplacian_and_its_gradient_is_exact(toy_model):
    triangles, count = toy_model.topology.triangles, len(toy_model.mean)
    neighbours = neighbour_table(triangles, count)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.unique(np.sort(edges, 1), axis=0)
    adjacency = sparse.coo_matrix((np.ones(len(edges)), edges.T), (count, count))
    adjacency = (adjacency + adjacency.T).tocsr()
    umbrella = sparse.identity(count) - sparse.diags(1 / np.asarray(adjacency.sum(1)).ravel()) @ adjacency
    columns = np.random.default_rng(0).normal(size=(4, count, 3)).astype(np.float32)
    expected = np.mean([np.sum((umbrella @ column) ** 2, 1).mean() for column in columns])
    assert float(basis.smoothness(columns, neighbours)) == pytest.approx(expected, rel=1e-5)
    gradient = jax.grad(basis.smoothness)(jnp.asarray(columns), neighbours)
    dense = [2 * (umbrella.T @ (umbrella @ column)) / (count * 4) for column in columns]
    np.testing.assert_allclose(gradient, np.stack(dense), rtol=1e-3, atol=1e-5)


def test_asymmetry_is_free_for_even_and_odd_columns_only(toy_model):
    symmetry = toy_model.topology.symmetry
    rng = np.random.default_rng(2)
    raw = rng.normal(size=(1, len(symmetry), 3)).astype(np.float32)
    flip = np.array([-1, 1, 1], np.float32)
    even, odd = raw + raw[:, symmetry] * flip, raw - raw[:, symmetry] * flip
    assert float(basis.asymmetry(even, symmetry)) == pytest.approx(0, abs=1e-5)
    assert float(basis.asymmetry(odd, symmetry)) == pytest.approx(0, abs=1e-5)
    assert float(basis.asymmetry(raw, symmetry)) > 0.1


def test_excess_norm_and_distance_to_start():
    columns = np.zeros((2, 10, 3), np.float32)
    columns[0, :, 1] = 7.0
    assert float(basis.excess_norm(columns, 5.0)) == pytest.approx(2.0, rel=1e-5)
    assert float(basis.excess_norm(columns, 8.0)) == 0.0
    assert float(basis.distance_to_start(columns, np.zeros_like(columns))) == pytest.approx(24.5)


def test_vertex_areas_sum_to_trimeshs_area(toy_model):
    import trimesh

    mesh = trimesh.Trimesh(np.asarray(toy_model.mean), toy_model.topology.triangles, process=False)
    areas = vertex_areas(np.asarray(toy_model.mean), toy_model.topology.triangles)
    assert areas.sum() == pytest.approx(mesh.area, rel=1e-6)
