"""Intervals of confidence by resampling (Efron & Tibshirani 1993): percentiles of a statistic over drawn samples."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95


def interval(statistic: Callable[[np.ndarray], float | np.ndarray], groups: np.ndarray,
             strata: np.ndarray | None = None, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
             ) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of statistic(rows), a number or an array, where rows [N] int say which samples were drawn.

    groups [N]: samples of one group, the photos of one person say, are drawn together, as they are not independent;
    np.arange(N) draws single samples. strata [N]: as many groups are drawn of each stratum as it has, so that none is
    ever empty; a group lies in one stratum. Both ends are NaN where every stratum is a single group: nothing varies.
    """
    values = [statistic(rows) for rows in draw_rows(groups, strata, resamples, seed)]
    if not values:
        nothing = np.full(np.shape(statistic(np.arange(len(groups)))), np.nan)
        return nothing, nothing
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def folders(names: Sequence[str]) -> np.ndarray:
    """The group [N] of each name: its folder, PERSON of PERSON/SCAN, or itself where it is in none."""
    return np.array([name.rpartition("/")[0] or name for name in names])


def draw_rows(groups: np.ndarray, strata: np.ndarray | None = None, resamples: int = RESAMPLES, seed: int = 0
              ) -> Iterator[np.ndarray]:
    """The rows [n] int of each resample; none at all where every stratum is a single group."""
    _, groups = np.unique(groups, return_inverse=True)
    rows = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])
    first = np.array([part[0] for part in rows])
    stratum = np.zeros(len(rows), int) if strata is None else np.asarray(strata)[first]
    pools = [np.flatnonzero(stratum == one) for one in np.unique(stratum)]
    if max(map(len, pools)) < 2:
        return
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = np.concatenate([rng.choice(pool, len(pool)) for pool in pools])
        yield np.concatenate([rows[group] for group in drawn])
