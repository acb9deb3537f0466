"""The SIR metric: are the SHAPES of people told apart, not only their codes?

The question is of Jiang et al. 2022 (arXiv 2104.03515); the three measures are ours.
"""

import numpy as np

from sfm_jax.evaluation import recognition, surface


def sir_metric(shapes: np.ndarray, codes: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None,
               metric: str = "cosine") -> dict[str, float]:
    """Three numbers on neutral shapes [N, V, 3] mm, their codes [N, d] and persons [N].

    between_within_ratio: mean vertex distance between people over that within one person; geometry_rank1 and
    geometry_verification_accuracy: people recognised by that distance alone; code_geometry_spearman: rank correlation
    over pairs of code distance (`metric`: "cosine" or "euclidean") and shape distance.
    """
    distances = surface.shape_distances(shapes, weights)
    recognised = recognition.gallery_and_pairs(-distances, labels)
    return {
        "sir/between_within_ratio": recognition.between_within(distances, labels)["ratio"],
        "sir/geometry_rank1": recognised["rank1"],
        "sir/geometry_verification_accuracy": recognised["accuracy"],
        "sir/code_geometry_spearman": recognition.distance_correlation(codes, distances, metric),
    }
