"""Iterative closest points: a surface moved onto points, rigidly or with one scale. Host side, double precision.

What is minimised is the mean squared distance of the points to the moved surface, each squared distance cut off
(truncated least squares), in the unit of the points: a scale cannot shrink it away, as it could if the points were
moved. "plane" linearises the distance itself (Chen & Medioni 1992: point to plane, and point to point on rims and
corners) under Levenberg's damping, and converges in a few steps; "point" pulls every closest point to its partner in
closed form (Besl & McKay, PAMI 14(2) 1992), slower but from farther away.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from sfm_jax.array_types import AnyArray, Points
from sfm_jax.geometry.closest_point import ClosestPoints, Surface, check_points

METRICS = ("plane", "point")
_MOST_DAMPING = 1e8


class Similarity(NamedTuple):
    """point -> scale * rotation @ point + translation. float64."""

    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    scale: float

    def apply(self, points: Points) -> Float[np.ndarray, "*batch 3"]:
        """The points, moved."""
        return self.scale * points @ self.rotation.T + self.translation

    def undo(self, points: Points) -> Float[np.ndarray, "*batch 3"]:
        """The points that `apply` brings here."""
        return (points - self.translation) @ self.rotation / self.scale

    def then(self, after: "Similarity") -> "Similarity":
        """This one first, `after` second."""
        return Similarity(after.rotation @ self.rotation, after.apply(self.translation), after.scale * self.scale)


IDENTITY = Similarity(np.eye(3), np.zeros(3), 1.0)


class IcpReport(NamedTuple):
    """converged: whether the last step, taken or not, was shorter than the tolerance; iterations; residuals: root mean
    square of the cut-off distances, before the first step and after each that was taken; used: share of the points
    within the cut-off at the end."""

    converged: bool
    iterations: int
    residuals: tuple[float, ...]
    used: float


class IcpResult(NamedTuple):
    """motion of the surface; distances of the points to the moved surface; report."""

    motion: Similarity
    distances: Float[np.ndarray, " N"]
    report: IcpReport


def similarity_between(
    source: Float[AnyArray, "P 3"], target: Float[AnyArray, "P 3"], weights: Float[AnyArray, " P"] | None = None,
    scale: bool = False,
) -> Similarity:
    """geometry.alignment.procrustes in double precision: source onto target (Umeyama 1991).

    ValueError for fewer than three points: then the rotation is not determined; nor is a scale of points in one place.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    check_points(source, "source")
    check_points(target, "target")
    if source.shape != target.shape or len(source) < 3:
        raise ValueError(f"source, target: found shapes {source.shape} and {target.shape}, "
                         "expected the same [P, 3] with P >= 3")
    weights = np.ones(len(source)) if weights is None else np.asarray(weights, np.float64)
    weights = (weights / weights.sum())[:, None]
    source_mean, target_mean = (weights * source).sum(0), (weights * target).sum(0)
    centred = source - source_mean
    u, singular, vt = np.linalg.svd((target - target_mean).T @ (weights * centred))
    signs = np.array([1, 1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * signs) @ vt
    variance = (weights * centred**2).sum()
    if scale and not variance > 0:
        raise ValueError("source: all points are in one place, expected some apart, to find a scale")
    factor = float((singular * signs).sum() / variance) if scale else 1.0
    return Similarity(rotation, target_mean - factor * rotation @ source_mean, factor)


def icp(
    surface: Surface, points: Float[AnyArray, "N 3"], start: Similarity = IDENTITY, *, scale: bool = False,
    metric: str = "plane", cutoff: float = np.inf, iterations: int = 100, tolerance: float = 1e-6,
) -> IcpResult:
    """The motion that brings `surface` to the points.

    Args:
      surface: a mesh, in any unit.
      points: at least three (four with a scale), in any unit.
      start: of the search, from landmarks (`similarity_between`) say; its scale is kept where `scale` is False.
      scale: whether the surface may change its size.
      metric: "plane" or "point", see above.
      cutoff: distance, in the points' unit, from which on a point has no pull.
      iterations: at most.
      tolerance: share of the root mean square radius of the points; the search ends after a step that moves the
        surface by less.

    Returns:
      IcpResult. The report says whether the search came to an end.
    """
    points = np.asarray(points, np.float64)
    check_points(points)
    if metric not in METRICS:
        raise ValueError(f"metric: found {metric!r}, expected one of {', '.join(METRICS)}")
    radius = np.sqrt(np.square(points - points.mean(0)).sum(1).mean())
    motion, damping, converged, count = start, 1e-6, False, 0
    found = surface.closest(motion.undo(points))
    cost, residuals = _cost(motion, found, cutoff), []
    residuals.append(np.sqrt(cost))
    while count < iterations and not converged and damping < _MOST_DAMPING:
        count += 1
        used = motion.scale * found.distances < cutoff
        if used.sum() < 3 + scale:
            break
        if metric == "point":
            new = similarity_between(found.points[used], points[used], scale=scale)
            new = new if scale else _with_scale(new, motion.scale, found.points[used], points[used])
        else:
            new = motion.then(_damped_step(surface, points, motion, found, used, scale, damping))
        moved = np.sqrt(np.square(new.apply(found.points) - motion.apply(found.points)).sum(1).mean())
        new_found = surface.closest(new.undo(points))
        new_cost = _cost(new, new_found, cutoff)
        converged = bool(moved < tolerance * radius)
        if new_cost <= cost:
            motion, found, cost, damping = new, new_found, new_cost, damping / 10
            residuals.append(np.sqrt(cost))
        else:
            damping = max(damping, 1e-6) * 10
    distances = motion.scale * found.distances
    return IcpResult(motion, distances, IcpReport(converged, count, tuple(map(float, residuals)),
                                                  float((distances < cutoff).mean())))


def _cost(motion: Similarity, found: ClosestPoints, cutoff: float) -> float:
    return float(np.square(np.minimum(motion.scale * found.distances, cutoff)).mean())


def _with_scale(motion, scale, source, target):
    """The same rotation, with the best translation for a scale that is given."""
    return Similarity(motion.rotation, target.mean(0) - scale * motion.rotation @ source.mean(0), scale)


def _damped_step(surface, points, motion, found, used, scale, damping):
    """The small similarity, in the points' frame, that most lessens the linearised distances."""
    feet = motion.apply(found.points[used])
    towards = points[used] - feet
    distance = np.linalg.norm(towards, axis=1, keepdims=True)
    # On the surface the direction to it is lost to rounding: the triangle's normal is its limit.
    near = distance < 1e-6 * np.ptp(points, axis=0).max()
    normals = surface.normals[found.triangles[used]] @ motion.rotation.T
    direction = np.where(near, normals, towards / np.where(near, 1, distance))
    middle = feet.mean(0)
    arms = feet - middle
    size = np.sqrt(np.square(arms).sum(1).mean()) + np.finfo(float).tiny
    columns = [np.cross(arms, direction) / size, direction]
    if scale:
        columns.append((arms * direction).sum(1, keepdims=True) / size)
    jacobian = np.concatenate(columns, 1)
    square = jacobian.T @ jacobian
    square += damping * len(feet) * np.eye(len(square))
    move = np.linalg.lstsq(square, jacobian.T @ (direction * towards).sum(1), rcond=None)[0]
    rotation = Rotation.from_rotvec(move[:3] / size).as_matrix()
    factor = float(np.exp(move[6] / size)) if scale else 1.0
    return Similarity(rotation, middle - factor * rotation @ middle + move[3:6], factor)
