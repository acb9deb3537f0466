"""Rigid and similarity alignment of corresponding points in closed form."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray, Number, Points
from sfm_jax.geometry.products import matmul


def procrustes(
    source: Float[AnyArray, "P 3"], target: Float[AnyArray, "P 3"], weights: Float[AnyArray, " P"] | None = None,
    scale: bool = False,
) -> tuple[Float[Array, "3 3"], Float[Array, "3"], Float[Array, ""]]:
    """The rotation, translation (and scale) that best move `source` onto `target`.

    Minimises sum_p w_p |s R source_p + t - target_p|^2 over proper rotations: a mirrored target gives the best
    rotation, never a reflection. Umeyama, PAMI 13(4) 1991, equations 40-43, with weights.

    Args:
      source: [P, 3] points, at least three and not on one line for a unique answer.
      target: [P, 3] points in correspondence.
      weights: [P] non-negative importance of each point, not all zero; None is uniform.
      scale: fit s as well; otherwise s = 1.

    Returns:
      rotation [3, 3], translation [3] in the unit of `target`, scale [] (see `apply_similarity`), 0 of points in one
      place. The gradient is NaN where points are spread alike along two axes, as those of a square are: there the
      singular value decomposition has none.
    """
    weights = jnp.ones(source.shape[0], source.dtype) if weights is None else weights
    weights = (weights / jnp.sum(weights))[:, None]
    source_mean, target_mean = jnp.sum(weights * source, 0), jnp.sum(weights * target, 0)
    centred = source - source_mean
    covariance = matmul((target - target_mean).T, weights * centred)

    u, singular, vt = jnp.linalg.svd(covariance)
    mirrored = jnp.linalg.det(u) * jnp.linalg.det(vt) < 0
    signs = jnp.where(mirrored, jnp.array([1.0, 1.0, -1.0], u.dtype), jnp.ones(3, u.dtype))
    rotation = matmul(u * signs, vt)

    variance = jnp.sum(weights * centred**2)
    factor = jnp.sum(singular * signs) / jnp.where(variance > 0, variance, 1.0) if scale else jnp.ones((), u.dtype)
    return rotation, target_mean - factor * matmul(rotation, source_mean), factor


def apply_similarity(
    points: Points, rotation: Float[AnyArray, "3 3"], translation: Float[AnyArray, "3"], scale: Number = 1.0
) -> Float[Array, "*batch 3"]:
    """scale * rotation @ point + translation for points [..., 3]."""
    return scale * matmul(points, rotation.T) + translation

