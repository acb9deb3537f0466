"""What a scan has to be before a face is fitted to it; everything else is told in one line."""

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from sfm_jax.geometry.closest_point import check_points
from sfm_jax.geometry.icp import similarity_between
from sfm_jax.morphable.model import MorphableModel

UNITS = {"metres": 1000.0, "centimetres": 10.0, "inches": 25.4, "micrometres": 0.001}
_MISFIT = 0.4  # of the 68 landmarks' extent: of people, smiling, from the mean it is 0.1; mirrored or in any order 0.9
_AWAY = 0.5  # of the points' spread: the median landmark's distance from the scan, which is a twentieth


def check_units(model: MorphableModel, points: Float[np.ndarray, "N 3"]) -> None:
    """ValueError, naming the factor, unless points [N, 3] are about as large as the model, millimetres."""
    size, expected = _spread(points), _spread(np.asarray(model.mean, np.float64))
    if 0.4 < size / expected < 4:
        return
    name = min(UNITS, key=lambda name: abs(np.log(max(size, 1e-30) * UNITS[name] / expected)))
    guess = f"{name}? multiply by {UNITS[name]:g}" if 0.4 < size * UNITS[name] / expected < 4 else "give scale=True"
    raise ValueError(f"points: half of them lie within {size:.3g} of their middle, expected about {expected:.0f} mm: "
                     f"{guess}")


def unit_normals(normals: Float[np.ndarray, "N 3"], points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """Normals [N, 3] of points [N, 3], of length 1. ValueError of any other shape, or where one is no number."""
    normals = np.asarray(normals, np.float64)
    check_points(normals, "normals")
    if len(normals) != len(points):
        raise ValueError(f"normals: found {len(normals)}, expected one for each of {len(points)} points")
    return unit(normals)


def known_landmarks(
    model: MorphableModel, points: Float[np.ndarray, "N 3"], landmarks: Float[np.ndarray, "68 3"], scale: bool
) -> tuple[Int[np.ndarray, " L"], Float[np.ndarray, "L 3"]]:
    """Vertices [L] of the landmarks that are known, and their places [L, 3] in the scan of points [N, 3].

    scale: whether the scan has a size of its own. ValueError of any other shape, and unless they are near the points
    and in a face's places: of another unit, mirrored or in another order they are not.
    """
    landmarks, vertices = np.asarray(landmarks, np.float64), np.asarray(model.topology.landmarks)
    if landmarks.shape != (len(vertices), 3):
        raise ValueError(f"landmarks: found shape {landmarks.shape}, expected ({len(vertices)}, 3), NaN where unknown")
    known = np.isfinite(landmarks).all(1)
    if known.sum() < 3:
        raise ValueError(f"landmarks: found {known.sum()} known, expected at least 3")
    _check_places(model, points, vertices[known], landmarks[known], scale)
    return vertices[known], landmarks[known]


def _check_places(model, points, which, places, scale):
    away, spread = float(np.median(cKDTree(points).query(places)[0])), _spread(points)
    if away > _AWAY * spread:
        raise ValueError(f"landmarks: half of them lie {away:.3g} and more from the points, half of which are within "
                         f"{spread:.3g} of their middle: do both have one unit and place?")
    mean = np.asarray(model.mean, np.float64)
    start, every = similarity_between(mean[which], places, scale=scale), mean[model.topology.landmarks]
    # Of all, even where few are known: those of an open mouth alone are off by much of what they span.
    extent = start.scale * np.sqrt(np.square(every - every.mean(0)).sum(1).mean())
    misfit = np.sqrt(np.square(start.apply(mean[which]) - places).sum(1).mean()) / extent
    if misfit > _MISFIT:
        raise ValueError(f"landmarks: found {misfit:.2f} of their extent off the mean face's (root mean square), "
                         f"expected at most {_MISFIT:g}: iBUG's 68, in this order, not mirrored, in the points' unit")


def unit(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """Vectors [N, 3] of length 1; those without a length stay so."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _spread(points):
    """Median distance to the median point."""
    return float(np.median(np.linalg.norm(points - np.median(points, axis=0), axis=1)))
