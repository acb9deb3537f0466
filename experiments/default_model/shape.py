"""From people and face units to a shape space: alignment, principal components, expressions."""

import numpy as np
import scipy.spatial

from experiments.default_model.head import EYE, LID, SKIN, Head
from experiments.default_model.makehuman import FACE_UNITS, Source
from experiments.default_model.subdivision import triangulate
from sfm_jax.morphable.statistics import best_gaussian_codes, weighted_pca

MM_PER_DM = 100.0
LEAST_EXPRESSION = 0.3  # mm; tongueOut moves no skin
# Full activation of these sculpts opens the mouth by 37 mm; 0.7 of it is a wide open mouth. mouthClose closes the
# lips of an open jaw, so it goes with it.
RESTRAINED = {"jawOpen": 0.7, "mouthClose": 0.7}
LID_CLEARANCE = 0.8  # mm between a closed lid and the eyeball


def similarity_align(shapes: np.ndarray, weights: np.ndarray, rounds: int = 4) -> tuple[np.ndarray, float]:
    """Generalised Procrustes with scale: shapes [N, n, 3] on their common mean, centred where the weights [n] are.

    Returns the aligned shapes at the mean of their sizes, and the factor by which a shape of mean size was scaled (1
    to rounding; expressions are scaled by it).
    """
    weights = (weights / weights.sum())[None, :, None]
    centred = shapes - (weights * shapes).sum(1, keepdims=True)
    size = np.sqrt((weights * centred**2).sum((1, 2), keepdims=True))
    centred = centred / size
    mean = centred.mean(0)
    for _ in range(rounds):
        u, singular, vt = np.linalg.svd(np.einsum("nvi,vj->nij", weights * centred, mean))
        signs = np.ones((len(shapes), 1, 3))
        signs[:, 0, 2] = np.sign(np.linalg.det(u @ vt))
        factor = (singular[:, None] * signs).sum(2, keepdims=True)
        aligned = factor * (centred @ ((u * signs) @ vt))
        mean = aligned.mean(0)
        mean = mean / np.sqrt((weights[0] * mean**2).sum())
    return aligned * size.mean(), float(size.mean())


def metric_weights(head: Head, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertex areas [n] on the skin, less on the crown (for the PCA), and on the frontal face (for the alignment)."""
    triangles = triangulate(head.quads)
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    area = sum(np.bincount(triangles[:, k], areas, len(vertices)) for k in range(3))
    skin = area * head.vertices_of(SKIN)
    frontal = (vertices[:, 2] > 0.75) & (vertices[:, 1] > 6.15) & (vertices[:, 1] < 8.0)
    return skin * np.where(frontal, 1.0, 0.3), skin * frontal


def identity_space(shapes, weights, components):
    """mean [n, 3], basis [K, n, 3] at one sigma, sigma [K] mm, and the whitened codes [N, K] of the shapes (mm)."""
    mean, basis, sigma = weighted_pca(shapes, weights, components)
    return mean, basis, sigma, best_gaussian_codes(shapes, mean, basis, weights)


def expression_space(source: Source, head: Head, mean: np.ndarray, scale: float) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and displacements [E, n, 3] mm of the ARKit face units that move anything, mended where they need it."""
    names, columns = [], []
    for name, moved in source.targets(FACE_UNITS, head.base).items():
        moved = moved * scale * RESTRAINED.get(name, 1.0)
        if np.linalg.norm(moved, axis=1).max() < LEAST_EXPRESSION:
            continue
        if name.startswith("eyeBlink"):
            moved = _smooth_blink(head, mean, moved, side=1 if name.endswith("Left") else -1)
        names.append(name)
        columns.append(moved)
    return tuple(names), np.stack(columns)


def _smooth_blink(head, mean, moved, side):
    """A closed lid whose margin is one smooth arc, and which clears the eyeball."""
    closed = mean + moved
    margin = np.flatnonzero(head.vertices_of(LID) & head.vertices_of(SKIN) & (side * mean[:, 0] > 0))
    x = closed[margin, 0] - closed[margin, 0].mean()
    arc = np.stack([np.polyval(np.polyfit(x, closed[margin, axis], 3), x) for axis in (1, 2)], 1)
    # Upper and lower margin are fitted as one curve, so they meet; corners, which hardly move, stay where they are.
    share = np.clip(np.linalg.norm(moved[margin], axis=1) / 2.0, 0, 1)[:, None]
    near, which = scipy.spatial.cKDTree(mean[margin]).query(mean)
    lids = head.vertices_of(SKIN, LID) & (near < 12)
    correction = np.zeros_like(moved)
    correction[margin, 1:] = share * (arc - closed[margin, 1:])
    spread = np.exp(-0.5 * (near / 3.0) ** 2)[:, None] * correction[which] * lids[:, None]
    closed = closed + spread
    eyeball = np.flatnonzero(head.vertices_of(EYE) & (side * mean[:, 0] > 0))
    centre = (mean[eyeball].max(0) + mean[eyeball].min(0)) / 2
    radius = (np.ptp(mean[eyeball, 0]) + np.ptp(mean[eyeball, 1])) / 4
    centre[2] = mean[eyeball, 2].max() - radius
    away = closed - centre
    distance = np.linalg.norm(away, axis=1)
    skin = head.vertices_of(SKIN) & (near < 12)
    short = np.where(skin, np.clip(radius + LID_CLEARANCE - distance, 0, None), 0)
    return closed + (short / distance)[:, None] * away - mean
