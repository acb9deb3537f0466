"""How well landmarks and poses are found, on the host."""

import jax
import numpy as np

from sfm_jax.geometry import rotation

YAW_BINS = ((0, 30), (30, 60), (60, 90))  # degrees of absolute yaw


def nme_percent(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Normalised mean error [N] in per cent of landmarks [N, 68, 2], in pixels of the same image.

    The mean distance over sqrt(width * height) of the true landmarks' bounding box: the protocol of AFLW2000-3D
    (Zhu et al., "Face Alignment Across Large Poses", CVPR 2016; as in the authors' benchmark of 3DDFA).

    Raises:
      ValueError: arrays of other or different shapes, or true landmarks without a width or a height.
    """
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if predicted.shape != truth.shape or truth.ndim != 3 or truth.shape[2] != 2:
        raise ValueError(f"landmarks: expected [N, 68, 2] twice, found {predicted.shape} and {truth.shape}")
    area = np.prod(truth.max(1) - truth.min(1), axis=-1)
    flat = np.flatnonzero(~(area > 0))
    if len(flat):
        raise ValueError(f"truth: expected landmarks that span an area, found {len(flat)} of {len(area)} faces that do "
                         f"not, the first of them face {flat[0]}")
    return 100 * np.linalg.norm(predicted - truth, axis=-1).mean(1) / np.sqrt(area)


def by_yaw(values: np.ndarray, yaw_degrees: np.ndarray) -> dict[str, float]:
    """Mean of values [N] by absolute yaw [N]: "0-30", "30-60", "60-90", and "mean", the mean of these means.

    The mean of the bins is what papers quote of AFLW2000-3D, whose faces are mostly frontal. As in 3DDFA's benchmark
    30 and 60 belong to the bin below, and all beyond 60 to the last. Empty bins are left out, of the mean as well.
    ValueError for no values, and for yaws that are no numbers.
    """
    values, yaw = np.asarray(values), np.abs(np.asarray(yaw_degrees))
    if values.shape != yaw.shape or not len(values) or not np.isfinite(yaw).all():
        raise ValueError(f"values, yaw_degrees: found shapes {values.shape} and {yaw.shape}, "
                         f"{np.sum(~np.isfinite(yaw))} yaws no finite numbers, expected [N] twice with N > 0")
    number = np.digitize(yaw, [high for _, high in YAW_BINS[:-1]], right=True)
    means = {f"{low}-{high}": float(values[number == k].mean())
             for k, (low, high) in enumerate(YAW_BINS) if (number == k).any()}
    return means | {"mean": float(np.mean(list(means.values())))}


def rotation_error_degrees(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Angle [N] in degrees, 0 to 180, of the rotation between rotations [N, 3, 3]."""
    return np.asarray(jax.jit(rotation.rotation_angle)(predicted, truth))
