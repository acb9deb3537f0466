"""Bootstrap intervals against SciPy's, and how samples are drawn."""

import numpy as np
from scipy import stats

from sfm_jax.evaluation.protocols.bootstrap import draw_rows, folders, interval


def test_the_interval_is_scipys():
    values = np.random.default_rng(0).gamma(2.0, size=200)
    low, high = interval(lambda rows: np.median(values[rows]), np.arange(200), resamples=4000)
    expected = stats.bootstrap((values,), np.median, n_resamples=4000, method="percentile", rng=1).confidence_interval
    np.testing.assert_allclose([low, high], expected, atol=0.03)
    low, high = interval(lambda rows: np.array([values[rows].mean(), values[rows].std()]), np.arange(200))
    assert low.shape == (2,) and low[0] < values.mean() < high[0] and low[1] < values.std() < high[1]


def test_it_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        values = rng.normal(size=60)
        low, high = interval(lambda rows, values=values: values[rows].mean(), np.arange(60), resamples=200)
        inside += low < 0 < high
    assert 0.88 < inside / 200 < 0.99


def test_groups_are_drawn_whole_and_strata_keep_their_sizes():
    groups, strata = np.array([5, 5, 9, 9, 9, 2]), np.array([0, 0, 1, 1, 1, 1])
    for rows in draw_rows(groups, strata, resamples=50):
        counts = np.bincount(rows, minlength=6)
        assert counts[:2].tolist() == [1, 1] and counts[2] == counts[3] == counts[4]
        assert counts[2] + counts[5] == 2


def test_correlated_samples_have_wider_intervals_by_groups():
    people = np.repeat(np.arange(20), 30)
    values = np.random.default_rng(0).normal(size=20)[people] + 0.1 * np.random.default_rng(1).normal(size=600)
    single = np.ptp(interval(lambda rows: values[rows].mean(), np.arange(600)))
    grouped = np.ptp(interval(lambda rows: values[rows].mean(), people))
    assert grouped > 3 * single


def test_names_are_grouped_by_their_folder():
    assert folders(["Ann/1", "Ann/2", "sub/Bob/1", "Cid"]).tolist() == ["Ann", "Ann", "sub/Bob", "Cid"]


def test_one_group_has_no_interval():
    assert np.isnan(interval(lambda rows: 1.0, np.zeros(7))).all()
