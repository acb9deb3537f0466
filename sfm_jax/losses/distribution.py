"""Losses on the distribution of codes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray, Number
from sfm_jax.geometry import sphere


def moments_kl(mean: Float[AnyArray, " d"], variance: Float[AnyArray, " d"], sigma: Number = 1.0) -> Float[Array, ""]:
    """KL divergence of N(mean, diag variance) [d] from N(0, sigma^2 I), summed over coordinates; nats.

    1/2 sum_k (s_k^2 + m_k^2 - 1 - ln s_k^2) on codes divided by sigma (after Jiang et al. 2022, SIR).
    """
    scaled_variance = variance / sigma**2
    return 0.5 * jnp.sum(scaled_variance + (mean / sigma) ** 2 - 1.0 - jnp.log(scaled_variance))


def batch_moments(
    codes: Float[AnyArray, "B d"], axis_name: str | None = None
) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    """Mean and variance [d] of codes [B, d] over the batch, and over every device when an axis is named."""
    mean, square = jnp.mean(codes, axis=0), jnp.mean(codes**2, axis=0)
    if axis_name is not None:
        mean, square = jax.lax.pmean((mean, square), axis_name)
    return mean, jnp.maximum(square - mean**2, 1e-8)


def sphere_penalty(codes: Float[AnyArray, "*batch d"], radius: Number) -> Float[Array, "*batch"]:
    """(|c| / r - 1)^2 [...] of codes [..., d]: the soft sphere (ours; the hard one projects instead)."""
    length = jnp.sum(sphere.normalise(codes) * codes, axis=-1)
    return (length / radius - 1.0) ** 2


def first_moments(dimension: int) -> dict[str, jax.Array]:
    """Running moments before the first batch: nothing counted yet."""
    return {"mean": jnp.zeros(dimension), "square": jnp.zeros(dimension), "count": jnp.zeros(())}


def running_moments(
    mean: Float[AnyArray, " d"], variance: Float[AnyArray, " d"], running: dict[str, jax.Array], decay: Number
) -> tuple[tuple[Float[Array, " d"], Float[Array, " d"]], dict[str, Array]]:
    """((mean, variance) [d] of this batch and those before it, the new running moments). Ours.

    An exponential moving average of the first and second moments: each batch weighs `decay` times the one after it,
    and the sums are divided by the sum of the weights, so that the first batches are not drawn to zero (as in Adam).
    Gradients flow through this batch's share only, 1 - decay in the long run: a loss on these moments pulls 1 / (1 -
    decay) times less than one on the batch's own, and as much less noisily. A decay of 0 is the batch's own.
    """
    def averaged(old, new):
        return decay * jax.lax.stop_gradient(old) + (1 - decay) * new

    new = {"mean": mean, "square": variance + mean**2, "count": 1.0}
    sums = {name: averaged(running[name], value) for name, value in new.items()}
    centre, square = sums["mean"] / sums["count"], sums["square"] / sums["count"]
    return (centre, jnp.maximum(square - centre**2, 1e-8)), jax.lax.stop_gradient(sums)
