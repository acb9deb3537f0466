"""Alignment against known motions and against SciPy's rotation fit."""

import chex
import jax
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from sfm_jax.geometry.alignment import apply_similarity, procrustes


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32) * 80


@pytest.mark.parametrize("with_scale", [False, True])
def test_recovers_a_known_similarity(points, with_scale):
    rotation = Rotation.from_euler("yxz", [50, -20, 100], degrees=True).as_matrix()
    factor = 1.7 if with_scale else 1.0
    target = (factor * points @ rotation.T + [5.0, -30.0, 12.0]).astype(np.float32)
    found = jax.jit(procrustes, static_argnames="scale")(points, target, scale=with_scale)
    chex.assert_trees_all_close(found[0], rotation, atol=2e-6)
    chex.assert_trees_all_close(found[1], np.array([5.0, -30.0, 12.0]), atol=2e-4)
    np.testing.assert_allclose(found[2], factor, rtol=1e-6)
    chex.assert_trees_all_close(apply_similarity(points, *found), target, atol=1e-3)


def test_agrees_with_scipy_on_noisy_weighted_points(points):
    rng = np.random.default_rng(1)
    target = points[:, [1, 2, 0]] + rng.normal(size=points.shape) * 20
    weights = rng.uniform(0, 1, len(points))
    rotation, _, _ = procrustes(points, target, weights)
    source_mean, target_mean = (np.average(x, axis=0, weights=weights) for x in (points, target))
    expected, _ = Rotation.align_vectors(target - target_mean, points - source_mean, weights)
    chex.assert_trees_all_close(rotation, expected.as_matrix(), atol=1e-5)


@pytest.mark.parametrize("with_scale", [False, True])
def test_mirrored_target_gives_the_best_proper_rotation(points, with_scale):
    target = points * np.array([-1, 1, 1], np.float32) * [1.0, 2.0, 3.0]

    def cost(motion):
        moved = np.exp(motion[6] * with_scale) * Rotation.from_rotvec(motion[:3]).apply(points) + motion[3:6]
        return np.sum((moved - target) ** 2) / 1e5

    rng = np.random.default_rng(2)
    best = min(minimize(cost, np.append(rng.normal(size=3) * 2, np.zeros(4))).fun for _ in range(8))
    rotation, translation, factor = procrustes(points, target, scale=with_scale)
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-5)
    moved = apply_similarity(points, rotation, translation, factor)
    np.testing.assert_allclose(np.sum((np.asarray(moved) - target) ** 2) / 1e5, best, rtol=1e-4)


def test_points_of_zero_weight_do_not_count(points):
    target = points + np.float32(10)
    target[0] += 500
    weights = np.ones(len(points), np.float32)
    weights[0] = 0
    rotation, translation, _ = procrustes(points, target, weights)
    chex.assert_trees_all_close(rotation, np.eye(3), atol=1e-5)
    chex.assert_trees_all_close(translation, np.full(3, 10.0), atol=1e-3)


def test_vmaps_and_has_finite_gradients(points):
    batch = np.stack([points, points * 1.1, points + 3])
    rotations, translations, factors = jax.vmap(lambda a, b: procrustes(a, b, scale=True))(batch, batch[::-1])
    chex.assert_shape(rotations, (3, 3, 3))
    chex.assert_shape(translations, (3, 3))
    np.testing.assert_allclose(factors, [1, 1, 1], atol=0.11)
    chex.assert_tree_all_finite(jax.grad(lambda x: procrustes(x, points, scale=True)[1].sum())(points * 1.1))


def test_points_in_one_place_have_no_scale():
    rotation, translation, scale = procrustes(np.ones((4, 3), np.float32), np.full((4, 3), 2, np.float32), scale=True)
    np.testing.assert_allclose(scale, 0)
    np.testing.assert_allclose(translation, 2)
    assert np.isfinite(rotation).all()
