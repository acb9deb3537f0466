"""The SIR metric: are the SHAPES of people told apart, not only their codes?

The question is of Jiang et al. 2022 (CGF, arXiv 2104.03515); the measures are ours. Host side, NumPy.
"""

import numpy as np

from sfm_jax.evaluation import recognition, surface


def sir_metric(shapes: np.ndarray, codes: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None,
               metric: str = "cosine") -> dict[str, float]:
    """Three questions to neutral shapes [N, V, 3] mm, their codes [N, d] and persons [N].

    Are people further apart than samples of one person? `sir/between_within_ratio` of mean vertex distances; 1: no.
    Is a person recognised by vertex distance alone? `sir/geometry_rank1`, the first sample of each person being the
    gallery, and `sir/geometry_verification_accuracy` over all pairs, balanced; .5: no.
    Do distances of codes carry over to shapes? `sir/code_geometry_spearman`, the rank correlation over all pairs;
    0: no. Of codes on a sphere `metric` is "cosine", which ranks as the angle does; of others "euclidean".

    `weights` [V] of the vertices are relative; None is uniform. Shapes, or codes, that are all the same answer "no"
    rather than with NaN; the ratio is infinite where every person's samples are one shape.

    Raises:
      ValueError: lengths that do not match, or not both kinds of pairs: of one person and of two.
    """
    shapes, codes, labels = np.asarray(shapes), np.asarray(codes), np.asarray(labels)
    if shapes.ndim != 3 or codes.ndim != 2 or labels.shape != (len(shapes),) or len(codes) != len(shapes):
        raise ValueError(f"shapes, codes, labels: expected [N, V, 3], [N, d], [N], found {shapes.shape}, "
                         f"{codes.shape}, {labels.shape}")
    distances = surface.shape_distances(shapes, weights)
    recognised = recognition.gallery_and_pairs(-distances, labels)
    told_apart = distances.any()
    related = recognition.distance_correlation(codes, distances, metric) if told_apart else 0.0
    return {
        "sir/between_within_ratio": recognition.between_within(distances, labels)["ratio"] if told_apart else 1.0,
        "sir/geometry_rank1": recognised["rank1"],
        "sir/geometry_verification_accuracy": recognised["accuracy"],
        "sir/code_geometry_spearman": related,
    }
