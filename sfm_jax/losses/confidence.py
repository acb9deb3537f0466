"""Errors weighed by how sure the network is of them: aleatoric uncertainty."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray, Number


def aleatoric(
    error: Float[AnyArray, "*batch"], confidence: Float[AnyArray, "*batch"], tolerance: Number = 1.0
) -> Float[Array, "*batch"]:
    """confidence * error / tolerance - log(confidence) [...] of errors [...] >= 0 and confidences [...] in (0, 1].

    The negative log-likelihood of a Laplacian of scale tolerance / confidence, but for a constant (Kendall & Gal,
    NeurIPS 2017; after Jiang et al. 2022, SIR). It is least at confidence = min(1, tolerance / error): errors within
    the tolerance, of the error's unit (ours), are no reason for doubt, and an error k times as large counts 1/k.
    """
    return confidence * error / tolerance - jnp.log(confidence)
