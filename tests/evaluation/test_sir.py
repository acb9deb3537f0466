"""The SIR metric on made-up people whose answers are known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from sfm_jax.evaluation.sir import sir_metric


def population(spread_within, seed=0):
    """6 people x 4 photos: shapes [24, 5, 3] around each person's own, codes that make them, labels."""
    rng = np.random.default_rng(seed)
    basis = rng.standard_normal((3, 15))
    codes = np.repeat(rng.standard_normal((6, 3)), 4, axis=0) + spread_within * rng.standard_normal((24, 3))
    return (codes @ basis).reshape(24, 5, 3), codes, np.repeat(np.arange(6), 4)


def test_people_far_apart():
    found = sir_metric(*population(1e-3), metric="euclidean")
    assert found["sir/geometry_rank1"] == 1 and found["sir/geometry_verification_accuracy"] == 1
    assert found["sir/between_within_ratio"] > 100
    assert found["sir/code_geometry_spearman"] > 0.8


def test_people_alike():
    rng = np.random.default_rng(1)
    shapes, codes, _ = population(0.0)
    noise = rng.standard_normal(shapes.shape)
    found = sir_metric(noise, rng.standard_normal(codes.shape), np.repeat(np.arange(6), 4), metric="euclidean")
    assert found["sir/between_within_ratio"] == pytest.approx(1, abs=0.1)
    assert found["sir/geometry_rank1"] < 0.6
    assert abs(found["sir/code_geometry_spearman"]) < 0.3


def test_against_a_plain_loop():
    shapes, codes, labels = population(0.5)
    weights = np.array([0.4, 0.3, 0.1, 0.1, 0.1])
    between, within, distances, apart = [], [], [], []
    for i in range(24):
        for j in range(i + 1, 24):
            distance = float(weights @ np.linalg.norm(shapes[i] - shapes[j], axis=1))
            (within if labels[i] == labels[j] else between).append(distance)
            distances.append(distance)
            apart.append(np.linalg.norm(codes[i] - codes[j]))
    found = sir_metric(shapes, codes, labels, weights, "euclidean")
    assert found["sir/between_within_ratio"] == pytest.approx(np.mean(between) / np.mean(within), rel=1e-6)
    assert found["sir/code_geometry_spearman"] == pytest.approx(spearmanr(apart, distances).statistic, rel=1e-6)
