"""Principal components of shapes, and of Gaussian models whose components are not orthogonal."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sfm_jax.geometry.alignment import apply_similarity, procrustes

NEGLIGIBLE = 1e-6  # of the largest standard deviation: rounding, not a component
ALIGNMENT_ROUNDS = 5


def orthogonal(basis: Float[np.ndarray, "K V 3"]) -> Float[np.ndarray, "L V 3"]:
    """The components [K', V, 3] of the same Gaussian as basis [K, V, 3], orthogonal, the largest first.

    With x = c B and c ~ N(0, 1) the covariance is B^T B: the right singular vectors of B times its singular values.
    Components that are nothing but rounding are left out; each one's largest entry is positive.
    """
    flat = np.asarray(basis, np.float64).reshape(len(basis), -1)
    variance, axes = np.linalg.eigh(flat @ flat.T)
    order = np.argsort(-variance)
    order = order[variance[order] > NEGLIGIBLE**2 * max(variance.max(initial=0), 1e-300)]
    rotated = axes[:, order].T @ flat
    largest = np.take_along_axis(rotated, np.abs(rotated).argmax(1)[:, None], 1)
    return (rotated * np.where(largest < 0, -1, 1)).reshape(-1, *np.shape(basis)[1:])


def without_motion(
    basis: Float[np.ndarray, "K V 3"], mean: Float[np.ndarray, "V 3"], keep_size: bool
) -> Float[np.ndarray, "K V 3"]:
    """basis [K, V, 3] less what it moves, turns and (unless keep_size) scales the mean [V, 3], to first order."""
    centred = np.asarray(mean, np.float64) - np.mean(mean, axis=0, dtype=np.float64)
    fields = [np.broadcast_to(axis, centred.shape) for axis in np.eye(3)]
    fields += [np.cross(axis, centred) for axis in np.eye(3)] + ([] if keep_size else [centred])
    motions, _ = np.linalg.qr(np.stack(fields).reshape(len(fields), -1).T)
    flat = np.asarray(basis, np.float64).reshape(len(basis), -1)
    return (flat - flat @ motions @ motions.T).reshape(np.shape(basis))


def aligned(shapes: Float[np.ndarray, "N V 3"]) -> Float[np.ndarray, "N V 3"]:
    """shapes [N, V, 3] turned and moved, not scaled, onto their mean, which stays where the first shape is.

    Generalised Procrustes analysis (Gower 1975).
    """
    shapes = jnp.asarray(shapes, jnp.float32)
    target = shapes[0]
    align = jax.jit(jax.vmap(_onto, (0, None)))
    for _ in range(ALIGNMENT_ROUNDS):
        moved = align(shapes, target)
        target = _onto(moved.mean(0), shapes[0])
    return np.asarray(align(shapes, target))


def _onto(shape, target):
    return apply_similarity(shape, *procrustes(shape, target))
