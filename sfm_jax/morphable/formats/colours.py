"""Vertex colours as other models have them, sRGB that is linear in its codes, and our albedo, whose logarithm is.

The mean's colours carry over exactly, those of other codes to first order: d log L = L'(c) / L(c) dc, with the linear
intensity L of an sRGB value c. In the logarithm a code can never make an albedo negative.
"""

import numpy as np
from jaxtyping import Float

from sfm_jax.morphable.model import MorphableModel

DARKEST = 1 / 255  # of sRGB: the logarithm needs a floor


def albedo_from_srgb(
    mean: Float[np.ndarray, "V 3"], basis: Float[np.ndarray, "A V 3"]
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "A V 3"]]:
    """Log linear albedo, mean [V, 3] and basis [A, V, 3], of sRGB in [0, 1] likewise. Darker than 1/255 is 1/255."""
    mean = np.clip(np.asarray(mean, np.float64), DARKEST, None)
    return np.log(_linear(mean)), np.asarray(basis, np.float64) * _log_slope(mean)


def srgb_from_albedo(
    mean: Float[np.ndarray, "V 3"], basis: Float[np.ndarray, "A V 3"]
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "A V 3"]]:
    """The inverse of `albedo_from_srgb`."""
    linear = np.exp(np.asarray(mean, np.float64))
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-12) ** (1 / 2.4) - 0.055)
    return srgb, np.asarray(basis, np.float64) / _log_slope(srgb)


def log_albedo(model: MorphableModel) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "A V 3"]]:
    """Mean [V, 3] and basis [A, V, 3] of a model's log linear albedo; of a linear one's to first order."""
    mean, basis = np.asarray(model.albedo_mean, np.float64), np.asarray(model.albedo_basis, np.float64)
    if model.albedo_space == "log":
        return mean, basis
    mean = np.maximum(mean, _linear(DARKEST))
    return np.log(mean), basis / mean


def _linear(srgb):
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _log_slope(srgb):
    """d log L / dc."""
    return np.where(srgb <= 0.04045, 1 / np.maximum(srgb, 1e-12), 2.4 / (srgb + 0.055))
