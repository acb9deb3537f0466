"""The SIR metric on people whose shapes are known, and against loops, SciPy and scikit-learn."""

import itertools

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_curve
from sklearn.neighbors import KNeighborsClassifier

from sfm_jax.evaluation.sir import sir_metric


def _people(persons, samples, noise, seed=0, vertices=12):
    """Codes, and the shapes that a random linear basis makes of them."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(persons), samples)
    codes = rng.normal(size=(persons, 8))[labels] + noise * rng.normal(size=(len(labels), 8))
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    return codes, (codes @ rng.normal(size=(8, vertices * 3))).reshape(-1, vertices, 3), labels


def _loops(shapes, codes, labels, weights):
    """Transcription of the definition: ratio, rank 1, pair distances and angles."""
    share = weights / weights.sum()
    pairs = list(itertools.combinations(range(len(labels)), 2))
    distance = {(i, j): sum(w * np.linalg.norm(a - b) for w, a, b in zip(share, shapes[i], shapes[j], strict=True))
                for i, j in pairs}
    within = [d for (i, j), d in distance.items() if labels[i] == labels[j]]
    between = [d for (i, j), d in distance.items() if labels[i] != labels[j]]
    angle = [np.arccos(codes[i] @ codes[j]) for i, j in pairs]
    return np.mean(between) / np.mean(within), np.array(list(distance.values())), angle


def test_all_three_parts_against_their_definitions():
    codes, shapes, labels = _people(6, 3, 0.5)
    weights = np.random.default_rng(5).uniform(size=shapes.shape[1])
    found = sir_metric(shapes, codes, labels, weights)
    ratio, distances, angles = _loops(shapes, codes, labels, weights)
    assert found["sir/between_within_ratio"] == pytest.approx(ratio)
    assert found["sir/code_geometry_spearman"] == pytest.approx(spearmanr(angles, distances).statistic)

    def distance(a, b):
        return weights @ np.linalg.norm((a - b).reshape(-1, 3), axis=1)

    flat = shapes.reshape(len(shapes), -1)
    nearest = KNeighborsClassifier(1, metric=distance, algorithm="brute").fit(flat[::3], labels[::3])
    probes = np.arange(len(labels)) % 3 > 0
    assert found["sir/geometry_rank1"] == pytest.approx(nearest.score(flat[probes], labels[probes]))
    assert 0.5 < found["sir/geometry_rank1"] < 1  # the case tells hits from misses


def test_verification_accuracy_is_near_the_best_point_of_scikit_learns_curve():
    codes, shapes, labels = _people(12, 4, 0.3, seed=2)
    accuracy = sir_metric(shapes, codes, labels)["sir/geometry_verification_accuracy"]
    pairs = np.triu_indices(len(labels), 1)
    distances = np.linalg.norm(shapes[:, None] - shapes, axis=-1).mean(-1)[pairs]
    far, tar, _ = roc_curve((labels[:, None] == labels)[pairs], -distances)
    assert 0.7 < accuracy < 0.99
    assert accuracy == pytest.approx(np.max(tar + 1 - far) / 2, abs=0.03)


def test_separate_people_are_told_apart_perfectly_and_shuffled_ones_not_at_all():
    codes, shapes, labels = _people(20, 4, 0.02)
    perfect = sir_metric(shapes, codes, labels)
    assert perfect["sir/geometry_rank1"] == 1 and perfect["sir/geometry_verification_accuracy"] > 0.97
    assert perfect["sir/between_within_ratio"] > 20
    shuffled = sir_metric(shapes, codes, np.random.default_rng(0).permutation(labels))
    assert shuffled["sir/between_within_ratio"] == pytest.approx(1, abs=0.1)
    assert shuffled["sir/geometry_verification_accuracy"] == pytest.approx(0.5, abs=0.1)
    # Labels say nothing about how distances of codes carry over to shapes.
    assert shuffled["sir/code_geometry_spearman"] == perfect["sir/code_geometry_spearman"] > 0.8


def test_discriminative_codes_do_not_make_discriminative_shapes():
    codes, shapes, labels = _people(20, 3, 0.02)
    noise = np.random.default_rng(1).normal(size=shapes.shape)
    found = sir_metric(noise, codes, labels)
    assert found["sir/between_within_ratio"] == pytest.approx(1, abs=0.1)
    assert abs(found["sir/code_geometry_spearman"]) < 0.1 and found["sir/geometry_rank1"] < 0.3


def test_euclidean_codes_are_compared_by_distance():
    codes, shapes, labels = _people(5, 2, 0.3)
    lengths = np.linspace(1, 9, len(codes))[:, None]
    shapes = lengths[..., None] * shapes
    pairs = np.triu_indices(len(labels), 1)
    expected = spearmanr(np.linalg.norm((lengths * codes)[:, None] - lengths * codes, axis=-1)[pairs],
                         np.linalg.norm(shapes[:, None] - shapes, axis=-1).mean(-1)[pairs]).statistic
    found = sir_metric(shapes, lengths * codes, labels, metric="euclidean")["sir/code_geometry_spearman"]
    assert found == pytest.approx(expected)


def test_collapsed_shapes_or_codes_answer_no_with_finite_numbers():
    codes, shapes, labels = _people(4, 3, 0.1)
    assert sir_metric(0 * shapes + shapes[0], codes, labels) == {
        "sir/between_within_ratio": 1, "sir/geometry_rank1": 0, "sir/geometry_verification_accuracy": 0.5,
        "sir/code_geometry_spearman": 0}
    assert sir_metric(shapes, 0 * codes + codes[0], labels)["sir/code_geometry_spearman"] == 0


def test_lengths_that_do_not_match_are_refused():
    codes, shapes, labels = _people(4, 3, 0.1)
    with pytest.raises(ValueError, match=r"found \(12, 12, 3\), \(11, 8\), \(12,\)"):
        sir_metric(shapes, codes[1:], labels)


def test_codes_in_one_direction_are_no_more_related_than_equal_ones():
    _, shapes, labels = _people(4, 3, 0.1)
    for direction in ([[1.0, 0.0]], [[0.3, 0.5, 0.9]]):
        codes = np.arange(1.0, len(shapes) + 1)[:, None] * direction
        assert sir_metric(shapes, codes, labels)["sir/code_geometry_spearman"] == 0
