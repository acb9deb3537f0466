"""Where a face is in a point cloud of which nothing is known: a search over all rotations.

Assumed: most of the points belong to what the model covers, the front of a head. Rotations spread evenly over all
(super-Fibonacci spirals: Alexa, CVPR 2022) are refined together by trimmed closest points on few points and vertices
(Chetverikov et al. 2002), worse ones are dropped on the way, and the last few are told apart on the exact surface.
"""

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from sfm_jax.geometry.closest_point import Surface
from sfm_jax.geometry.icp import Similarity, icp
from sfm_jax.morphable.model import MorphableModel

_ROTATIONS, _POINTS, _VERTICES = 600, 200, 3000
_ROUNDS = ((6, 120), (8, 24), (16, 6))  # so many steps, then the best so many that differ go on
_KEPT = 0.8  # share of the points, the nearest, that pull
_CUTOFF = 8.0  # mm: what is farther counts as this far
_DIFFERENT = np.deg2rad(15)  # between rotations that are not the same to the search


def find_starts(
    model: MorphableModel, points: Float[np.ndarray, "N 3"], scale: bool = False, count: int = 3
) -> list[Similarity]:
    """From the model's axes to those of points [N, 3], best first: up to `count` motions of different rotation, for the
    mean face alone may prefer a wrong one. With `scale`, the points' size is at first the face's."""
    mean = np.asarray(model.mean, np.float64)
    names = model.topology.region_names
    face = mean[model.topology.region("face") > 0.5] if "face" in names else mean
    rng = np.random.default_rng(0)
    size = _radius(points) / _radius(face) if scale else 1.0
    few = rng.permutation(points)[:_POINTS] / size
    few = few - few.mean(0)
    tree = cKDTree(rng.permutation(mean)[:_VERTICES])
    # From the points to the model.
    turns, shifts = spread_rotations(_ROTATIONS), np.broadcast_to(face.mean(0), (_ROTATIONS, 3))
    for steps, kept in _ROUNDS:
        for _ in range(steps):
            turns, shifts, cost = _trimmed_step(tree, few, turns, shifts)
        best = _different(turns, np.argsort(cost), kept)
        turns, shifts = turns[best], shifts[best]
    surface, middle = Surface(mean, model.topology.triangles), points.mean(0)
    more = rng.permutation(points)[:4 * _POINTS]
    found = []
    for turn, shift in zip(turns, shifts, strict=True):
        start = Similarity(turn.T, middle - size * turn.T @ shift, size)
        result = icp(surface, more, start, scale=scale, cutoff=_CUTOFF * size, iterations=20)
        found.append((result.report.residuals[-1] / result.motion.scale, result.motion))
    order = np.argsort([misfit for misfit, _ in found])
    return [found[k][1] for k in _different(np.stack([motion.rotation for _, motion in found]), order, count)]


def spread_rotations(count: int) -> Float[np.ndarray, "{count} 3 3"]:
    """[count, 3, 3]: rotations spread evenly over all of them (Alexa 2022, algorithm 1)."""
    root, psi = np.sqrt(2.0), 1.533751168755204288118041
    s = np.arange(count) + 0.5
    inner, outer = np.sqrt(s / count), np.sqrt(1 - s / count)
    first, second = 2 * np.pi * s / root, 2 * np.pi * s / psi
    quaternions = [inner * np.sin(first), inner * np.cos(first), outer * np.sin(second), outer * np.cos(second)]
    return Rotation.from_quat(np.stack(quaternions, 1)).as_matrix()


def _trimmed_step(tree, points, turns, shifts):
    """turns [R, 3, 3] and shifts [R, 3] after a step of each, and the trimmed mean squared distances [R] before it."""
    moved = np.einsum("rij,pj->rpi", turns, points) + shifts[:, None]
    away, nearest = tree.query(moved, workers=-1)
    kept = away <= np.quantile(away, _KEPT, axis=1, keepdims=True)
    weights = kept / kept.sum(1, keepdims=True)
    target = tree.data[nearest]
    middle, goal = (np.einsum("rp,rpi->ri", weights, x) for x in (moved, target))
    covariance = np.einsum("rp,rpi,rpj->rij", weights, target - goal[:, None], moved - middle[:, None])
    u, _, vt = np.linalg.svd(covariance)
    u[:, :, 2] *= np.sign(np.linalg.det(u) * np.linalg.det(vt))[:, None]
    turn = u @ vt
    shifts = goal + np.einsum("rij,rj->ri", turn, shifts - middle)
    return turn @ turns, shifts, (weights * away**2).sum(1)


def _different(rotations, order, count):
    """The first `count` indices in `order` whose rotations [R, 3, 3] differ from those before them."""
    chosen = []
    for k in order:
        cosines = (np.einsum("nij,ij->n", rotations[chosen], rotations[k]) - 1) / 2
        if len(chosen) < count and (cosines < np.cos(_DIFFERENT)).all():
            chosen.append(int(k))
    return chosen


def _radius(points):
    return np.sqrt(np.square(points - points.mean(0)).sum(1).mean())
