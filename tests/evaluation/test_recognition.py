"""Recognition measures against scikit-learn, counting by hand and closed forms."""

import numpy as np
import pytest
from sklearn import metrics
from sklearn.neighbors import KNeighborsClassifier

from sfm_jax.evaluation import recognition


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def pairs(rng):
    same = rng.uniform(size=500) < 0.3
    scores = np.round(rng.normal(size=500) + 1.5 * same, 1)  # one decimal: many ties
    return scores, same


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_rank1_is_the_nearest_neighbour_classifier(rng, metric):
    people = rng.normal(size=(20, 8))
    labels = np.repeat(np.arange(20), 3)
    gallery, probes = (people[labels] + 0.8 * rng.normal(size=(60, 8)) for _ in range(2))
    expected = KNeighborsClassifier(1, metric=metric).fit(gallery, labels).score(probes, labels)
    assert 0.3 < expected < 1
    np.testing.assert_allclose(recognition.rank1(gallery, labels, probes, labels, metric), expected)


def test_collapsed_embeddings_identify_nobody():
    labels = np.arange(5)
    assert recognition.rank1(np.ones((5, 3)), labels, np.ones((5, 3)), labels) == 0


def test_a_probe_without_a_mate_is_refused(rng):
    with pytest.raises(ValueError, match="1 of 2 probes without a mate"):
        recognition.rank1(rng.normal(size=(2, 3)), [0, 1], rng.normal(size=(2, 3)), [1, 7])


def test_all_pairs_lists_each_pair_once():
    scores, same = recognition.all_pairs(np.arange(9).reshape(3, 3), np.array([4, 5, 4]))
    np.testing.assert_array_equal(scores, [1, 2, 5])
    np.testing.assert_array_equal(same, [False, True, False])


def test_roc_and_area_are_scikit_learns(pairs):
    scores, same = pairs
    far, tar, thresholds = metrics.roc_curve(same, scores, drop_intermediate=False)
    found = recognition.roc(scores, same)
    np.testing.assert_allclose(found[0], far)
    np.testing.assert_allclose(found[1], tar)
    np.testing.assert_allclose(found[2], thresholds)
    np.testing.assert_allclose(recognition.verification(*pairs)["area_under_curve"],
                               metrics.roc_auc_score(same, scores))


@pytest.mark.parametrize("far", [0.0, 0.001, 0.02, 0.1, 1.0])
def test_tar_at_far_is_what_counting_over_every_threshold_gives(pairs, far):
    scores, same = pairs
    expected = max(np.mean(scores[same] >= t) for t in [*np.unique(scores), np.inf]
                   if np.mean(scores[~same] >= t) <= far)
    assert recognition.tar_at_far(*recognition.roc(scores, same)[:2], far) == expected


def test_a_tie_of_genuine_and_impostor_pairs_is_accepted_or_refused_whole():
    far, tar, _ = recognition.roc(np.array([3.0, 2, 2, 1]), np.array([True, True, False, False]))
    assert recognition.tar_at_far(far, tar, 0.0) == 0.5
    assert recognition.tar_at_far(far, tar, 0.49) == 0.5
    assert recognition.tar_at_far(far, tar, 0.5) == 1.0


def test_equal_error_rate_of_two_normals_is_the_normal_tail(rng):
    scores = np.concatenate([rng.normal(size=200_000), 2 + rng.normal(size=200_000)])
    same = np.arange(400_000) >= 200_000
    far, tar, _ = recognition.roc(scores, same)
    np.testing.assert_allclose(recognition.equal_error_rate(far, tar), 0.158655, atol=2e-3)


def test_the_equal_error_rate_lies_on_the_line_between_two_points_of_the_curve():
    far, tar = np.array([0, 0.1, 0.5, 1]), np.array([0, 0.4, 0.9, 1])
    share = 0.5 / 0.9  # far - (1 - tar) goes from -0.5 to 0.4
    np.testing.assert_allclose(recognition.equal_error_rate(far, tar), 0.1 + 0.4 * share)
    assert recognition.equal_error_rate(np.array([0.2, 1]), np.array([0.9, 1])) == 0.2


def test_verification_of_four_pairs_by_hand():
    result = recognition.verification(np.array([7.0, 6, 3, 1, 0]), np.array([True, True, False, False, False]))
    assert (result["threshold"], result["best_accuracy"]) == (4.5, 1)
    assert (result["pairs_same"], result["pairs_different"]) == (2, 3)
    assert result["tar_at_far_0.1"] == result["tar_at_far_0.01"] == result["tar_at_far_0.001"] == 1
    assert len(recognition.cross_validated_accuracy(np.arange(5.0), np.arange(5) > 2)) == 2
    assert recognition.verification(np.array([2.0, 3, 1, 0]), np.arange(4) < 2)["threshold"] == 1.5
    with pytest.raises(ValueError, match="at least 2 pairs of each kind, found 1 same-person and 3 different"):
        recognition.cross_validated_accuracy(np.arange(4.0), np.arange(4) == 0)


def test_accuracy_of_two_normals_is_the_bayes_rate_although_pairs_are_unbalanced(rng):
    scores = np.concatenate([rng.normal(size=100_000), 2 + rng.normal(size=4_000)])
    result = recognition.verification(scores, np.arange(104_000) >= 100_000)
    np.testing.assert_allclose(result["accuracy"], 0.841345, atol=0.012)
    assert result["best_accuracy"] >= result["accuracy"]
    np.testing.assert_allclose(result["threshold"], 1, atol=0.15)


def test_cross_validation_is_not_fooled_by_chance_as_the_best_threshold_is(rng):
    results = [recognition.verification(rng.normal(size=20), np.arange(20) % 2 == 0) for _ in range(200)]
    np.testing.assert_allclose(np.mean([r["accuracy"] for r in results]), 0.5, atol=0.04)
    assert np.mean([r["best_accuracy"] for r in results]) > 0.58


def test_cross_validation_is_reproducible_and_perfect_on_separated_pairs(pairs):
    scores, same = pairs
    np.testing.assert_array_equal(recognition.cross_validated_accuracy(scores, same),
                                  recognition.cross_validated_accuracy(scores, same))
    np.testing.assert_array_equal(recognition.cross_validated_accuracy(scores + 20 * same, same), np.ones(10))


@pytest.mark.parametrize(("scores", "same", "message"), [
    ([1.0, 2.0], [True, True], "both kinds of pairs, found 2 same-person pairs of 2"),
    ([1.0, np.nan], [True, False], "finite values, found 1"),
    ([1.0, 2.0, 3.0], [True, False], "one length"),
])
def test_unusable_pairs_are_refused(scores, same, message):
    with pytest.raises(ValueError, match=message):
        recognition.verification(np.array(scores), np.array(same))


def test_uniformity_in_closed_form(rng):
    np.testing.assert_allclose(recognition.uniformity(np.eye(5)), -4)  # every squared distance is 2
    np.testing.assert_allclose(recognition.uniformity(np.ones((4, 3)) * [[1], [2], [3], [4]]), 0, atol=1e-12)
    np.testing.assert_allclose(recognition.uniformity(np.eye(2)), -4)
    with pytest.raises(ValueError, match="at least 2 codes, found 1"):
        recognition.uniformity(np.eye(1))
    # On the 2-sphere z . z' is uniform in [-1, 1]: E exp(4 u - 4) = (1 - exp(-8)) / 8.
    np.testing.assert_allclose(recognition.uniformity(rng.normal(size=(2000, 3))), np.log((1 - np.exp(-8)) / 8),
                               atol=0.01)


def test_between_within_of_known_distances():
    distances = np.array([[0.0, 1, 4], [1, 0, 6], [4, 6, 0]])
    found = recognition.between_within(distances, np.array([0, 0, 1]))
    assert found == {"between": 5.0, "within": 1.0, "ratio": 5.0}
    distances[0, 1] = distances[1, 0] = 0
    assert recognition.between_within(distances, np.array([0, 0, 1]))["ratio"] == np.inf


def test_distance_correlation_is_one_for_a_monotone_map(rng):
    codes = rng.normal(size=(20, 4))
    distances = np.linalg.norm(codes[:, None] - codes, axis=-1)
    np.testing.assert_allclose(recognition.distance_correlation(codes, distances**3, "euclidean"), 1)
    assert abs(recognition.distance_correlation(rng.normal(size=(20, 4)), distances, "euclidean")) < 0.5
