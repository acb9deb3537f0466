"""Do codes, or shapes, tell persons apart? Identification, verification, and how codes spread over the sphere.

Host side, NumPy. Scores grow with likeness; a pair is accepted at a threshold t where its score >= t, so that equal
scores are accepted or refused together and no figure depends on the order of the pairs.
"""

import numpy as np
from scipy.stats import spearmanr

FALSE_ACCEPT_RATES = (1e-1, 1e-2, 1e-3)


def similarity(a: np.ndarray, b: np.ndarray, metric: str = "cosine") -> np.ndarray:
    """Scores [N, M] of embeddings a [N, d] against b [M, d]: the cosine, or minus the Euclidean distance."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if metric == "cosine":
        return _unit(a) @ _unit(b).T
    if metric == "euclidean":
        squared = np.sum(a**2, 1)[:, None] + np.sum(b**2, 1) - 2 * a @ b.T
        return -np.sqrt(squared.clip(0))
    raise ValueError(f"metric: expected 'cosine' or 'euclidean', found {metric!r}")


def all_pairs(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every unordered pair of N scans once: scores [P] and whether it is one person [P], P = N (N - 1) / 2."""
    labels = np.asarray(labels)
    rows, columns = np.triu_indices(len(labels), 1)
    return scores[rows, columns], labels[rows] == labels[columns]


def rank1(
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    probes: np.ndarray,
    probe_labels: np.ndarray,
    metric: str = "cosine",
) -> float:
    """Share of probes [M, d] whose most alike gallery entry [N, d] is their own person (closed set)."""
    return rank1_from_scores(similarity(probes, gallery, metric), gallery_labels, probe_labels)


def rank1_from_scores(scores: np.ndarray, gallery_labels: np.ndarray, probe_labels: np.ndarray) -> float:
    """`rank1` for scores [M probes, N gallery]. A tie between the person and another counts as a miss."""
    mate = np.asarray(probe_labels)[:, None] == np.asarray(gallery_labels)
    if not mate.any(1).all():
        raise ValueError(f"probe_labels: expected every person in the gallery, found {np.sum(~mate.any(1))} of "
                         f"{len(mate)} probes without a mate")
    best_mate = np.where(mate, scores, -np.inf).max(1)
    best_other = np.where(mate, -np.inf, scores).max(1)
    return float(np.mean(best_mate > best_other))


def roc(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False-accept rate, true-accept rate and threshold, [T] each, at every distinct score and at +inf."""
    scores, same = _checked_pairs(scores, same)
    order = np.argsort(-scores)
    scores, same = scores[order], same[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    accepted = last_of_tie + 1.0
    genuine = np.cumsum(same)[last_of_tie]
    tar = np.append(0.0, genuine / same.sum())
    far = np.append(0.0, (accepted - genuine) / np.sum(~same))
    return far, tar, np.append(np.inf, scores[last_of_tie])


def tar_at_far(far: np.ndarray, tar: np.ndarray, limit: float) -> float:
    """The largest true-accept rate on the ROC whose false-accept rate is at most `limit`, with no interpolation.

    Below one over the number of different-person pairs this is the rate at no false accept at all.
    """
    # Rates are ratios of counts: 3 of 3000 must meet a limit of 1e-3 whatever the rounding of either.
    return float(tar[far <= limit * (1 + 1e-12)].max())


def equal_error_rate(far: np.ndarray, tar: np.ndarray) -> float:
    """Where false accepts equal false rejects on the ROC, linear between its points."""
    gap = far - (1 - tar)
    after = int(np.argmax(gap >= 0))
    if after == 0:
        return float(far[0])
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(far[after - 1] + share * (far[after] - far[after - 1]))


def cross_validated_accuracy(scores: np.ndarray, same: np.ndarray, folds: int = 10, seed: int = 0) -> np.ndarray:
    """Accuracy on each fold of pairs, [folds], at the threshold that is best on the other folds (Huang et al., LFW).

    Accuracy is balanced, the mean of the true-accept and true-reject rates: plain accuracy on LFW's balanced pairs,
    and not flattered by the many different-person pairs among all pairs. Same-person and different-person pairs are
    dealt to the folds separately, by `seed`; with fewer pairs than folds of either kind there are fewer folds.
    """
    scores, same = _checked_pairs(scores, same)
    folds = min(folds, int(same.sum()), int(np.sum(~same)))
    if folds < 2:
        raise ValueError(f"same: cross-validation needs at least 2 pairs of each kind, found {same.sum()} same-person "
                         f"and {np.sum(~same)} different-person pairs")
    rng = np.random.default_rng(seed)
    fold = np.empty(len(scores), np.int64)
    for kind in (same, ~same):
        fold[kind] = rng.permutation(np.arange(kind.sum()) % folds)
    accuracies = []
    for k in range(folds):
        inside = fold == k
        threshold, _ = _best_threshold(*roc(scores[~inside], same[~inside]))
        accepted = scores[inside] >= threshold
        accuracies.append((accepted[same[inside]].mean() + np.mean(~accepted[~same[inside]])) / 2)
    return np.array(accuracies)


def verification(
    scores: np.ndarray, same: np.ndarray, fars: tuple[float, ...] = FALSE_ACCEPT_RATES, folds: int = 10
) -> dict[str, float | np.ndarray]:
    """Verification figures for pairs with scores [P] and truth `same` [P] (bool).

    Returns:
      accuracy, accuracy_std: mean and deviation of `cross_validated_accuracy`; best_accuracy and its threshold: on
      all pairs, optimistic; equal_error_rate; area_under_curve; tar_at_far_<far> for each of `fars`;
      pairs_same, pairs_different; and the ROC as arrays far, tar, thresholds [T].
    """
    far, tar, thresholds = roc(scores, same)
    accuracies = cross_validated_accuracy(scores, same, folds)
    threshold, best = _best_threshold(far, tar, thresholds)
    return {
        "accuracy": float(accuracies.mean()),
        "accuracy_std": float(accuracies.std()),
        "best_accuracy": best,
        "threshold": threshold,
        "equal_error_rate": equal_error_rate(far, tar),
        "area_under_curve": float(np.trapezoid(tar, far)),
        **{f"tar_at_far_{limit:g}": tar_at_far(far, tar, limit) for limit in fars},
        "pairs_same": int(np.sum(same)),
        "pairs_different": int(np.sum(~np.asarray(same))),
        "far": far,
        "tar": tar,
        "thresholds": thresholds,
    }


def gallery_and_pairs(scores: np.ndarray, labels: np.ndarray) -> dict:
    """`rank1` (the first sample of each person is the gallery, the others probe) and `verification` over all pairs.

    scores [N, N] between all samples, labels [N] their persons.
    """
    labels = np.asarray(labels)
    _, first = np.unique(labels, return_index=True)
    is_gallery = np.isin(np.arange(len(labels)), first)
    rank = rank1_from_scores(scores[~is_gallery][:, is_gallery], labels[is_gallery], labels[~is_gallery])
    return {"rank1": rank, **verification(*all_pairs(scores, labels))}


def uniformity(z: np.ndarray) -> float:
    """log mean over pairs of exp(-2 |z_i - z_j|^2), for the directions of codes z [N, d]; lower spreads further.

    Wang & Isola, ICML 2020, equation 5 with t = 2. On S^(d-1), d large, even spread tends to -4; one point gives 0.
    """
    z = _unit(np.asarray(z, np.float64))
    count = len(z)
    if count < 2:
        raise ValueError(f"z: uniformity needs at least 2 codes, found {count}")
    kernel = np.exp(4 * (z @ z.T) - 4)  # |z_i - z_j|^2 = 2 - 2 z_i . z_j
    return float(np.log((kernel.sum() - np.trace(kernel)) / (count * (count - 1))))


def between_within(distances: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean distance between persons and within a person, and their ratio: are the SHAPES told apart, not the codes?

    After Jiang et al. 2022 (SIR); the measure is ours. `distances` [N, N] mm are those of `surface.shape_distances`
    on neutral shapes, `labels` [N] the persons.
    """
    pairs, same = _checked_pairs(*all_pairs(np.asarray(distances), labels))
    between, within = float(pairs[~same].mean()), float(pairs[same].mean())
    return {"between": between, "within": within, "ratio": between / within if within > 0 else np.inf}


def distance_correlation(codes: np.ndarray, distances: np.ndarray, metric: str = "cosine") -> float:
    """Spearman correlation over all pairs between the distance of codes [N, d] and that of their shapes [N, N].

    0 where all codes are one, or all their distances, up to rounding.
    """
    rows, columns = np.triu_indices(len(codes), 1)
    code_distances = -similarity(codes, codes, metric)[rows, columns]
    if not np.ptp(codes, axis=0).any() or np.ptp(code_distances) <= 1e-12 * np.abs(code_distances).max():
        return 0.0
    return float(spearmanr(code_distances, np.asarray(distances)[rows, columns]).statistic)


def _best_threshold(far: np.ndarray, tar: np.ndarray, thresholds: np.ndarray) -> tuple[float, float]:
    """The threshold of the best balanced accuracy, midway to the next lower score, and that accuracy."""
    accuracy = (tar + 1 - far) / 2
    best = 1 + int(np.argmax(accuracy[1:]))
    following = thresholds[min(best + 1, len(thresholds) - 1)]
    return float((thresholds[best] + following) / 2), float(accuracy[best])


def _checked_pairs(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, same = np.asarray(scores, np.float64), np.asarray(same, bool)
    if scores.shape != same.shape or scores.ndim != 1:
        raise ValueError(f"scores and same: expected two vectors of one length, found {scores.shape}, {same.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores: expected finite values, found {np.sum(~np.isfinite(scores))} that are not")
    if same.all() or not same.any():
        raise ValueError(f"same: expected both kinds of pairs, found {same.sum()} same-person pairs of {len(same)}")
    return scores, same


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), np.finfo(np.float64).tiny)
