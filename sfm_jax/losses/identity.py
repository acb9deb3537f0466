"""Recognition losses: angular margins on the hypersphere, and the centre loss. Pure functions of one batch."""

import jax
import jax.numpy as jnp

from sfm_jax.geometry import sphere


def cosine_logits(embeddings: jax.Array, class_weights: jax.Array) -> jax.Array:
    """cos(theta) [..., C] between embeddings [..., d] and class weights [C, d]; both are normalised here."""
    return sphere.normalise(embeddings) @ sphere.normalise(class_weights).T


def angular_margin(cosine: jax.Array, m1: float = 1.0, m2: float = 0.0, m3: float = 0.0) -> jax.Array:
    """psi(m1 theta + m2) - m3 of cos(theta): the target logit of all three angular margins.

    m1 multiplies the angle (SphereFace, Liu et al. 2017, eq. 7), m2 adds an angle (ArcFace, Deng et al. 2019,
    eq. 4), m3 subtracts from the cosine (CosFace, Wang et al. 2018, eq. 4). Beyond pi the cosine is continued as
    psi(phi) = (-1)^k cos(phi) - 2k with k = floor(phi / pi), SphereFace's continuation applied to all: the
    logit falls strictly with the angle, so that far-off samples are still pulled. Margins are static numbers.
    """
    if m1 == 1.0 and m2 == 0.0:
        return cosine - m3
    # arccos has an infinite slope at +-1; 1e-6 inside, the slope is about 700 and the angle wrong by 1.4e-3 rad.
    phi = m1 * jnp.arccos(jnp.clip(cosine, -1.0 + 1e-6, 1.0 - 1e-6)) + m2
    k = jax.lax.stop_gradient(jnp.floor(phi / jnp.pi))
    return (1.0 - 2.0 * jnp.mod(k, 2.0)) * jnp.cos(phi) - 2.0 * k - m3


def margin_cross_entropy(cosine: jax.Array, labels: jax.Array, m1: float = 1.0, m2: float = 0.0, m3: float = 0.0,
                         scale: float = 32.0) -> jax.Array:
    """Softmax cross-entropy [...] of scale * cosine [..., C] with the margin on the true class `labels` [...].

    A label of -1 means "unknown" and costs 0.
    """
    known = labels >= 0
    index = jnp.where(known, labels, 0)
    target = jnp.take_along_axis(cosine, index[..., None], axis=-1)
    is_target = jnp.arange(cosine.shape[-1]) == index[..., None]
    logits = scale * jnp.where(is_target, angular_margin(target, m1, m2, m3), cosine)
    log_likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), index[..., None], axis=-1)[..., 0]
    return jnp.where(known, -log_likelihood, 0.0)
