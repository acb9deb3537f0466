"""How well landmarks and poses are found. Host side, NumPy."""

import numpy as np

YAW_BINS = ((0, 30), (30, 60), (60, 90))  # degrees, of AFLW2000-3D (Zhu et al. 2016)


def nme_percent(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Normalised mean error [N] in per cent of landmarks [N, 68, 2] px.

    The mean distance over sqrt(width * height) of the true landmarks' bounding box: the protocol of AFLW2000-3D
    (Zhu et al., "Face Alignment Across Large Poses", CVPR 2016).
    """
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    extent = truth.max(1) - truth.min(1)
    return 100 * np.linalg.norm(predicted - truth, axis=-1).mean(1) / np.sqrt(extent.prod(-1))


def by_yaw(values: np.ndarray, yaw_degrees: np.ndarray) -> dict[str, float]:
    """Mean of values [N] in each of YAW_BINS of the absolute yaw ("0-30", ...; above 90 belongs to the last), and
    "mean", the mean of these means, as the peers quote it. Empty bins are left out."""
    yaw, means = np.abs(np.asarray(yaw_degrees)), {}
    for low, high in YAW_BINS:
        inside = (yaw >= low) & ((yaw < high) | (high == YAW_BINS[-1][1]))
        if inside.any():
            means[f"{low}-{high}"] = float(np.mean(np.asarray(values)[inside]))
    return means | {"mean": float(np.mean(list(means.values())))}


def rotation_error_degrees(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Angle [N] in degrees of the rotation between rotations [N, 3, 3]."""
    trace = np.einsum("nij,nij->n", np.asarray(predicted, np.float64), np.asarray(truth, np.float64))
    return np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
