"""Points on the unit sphere S^(d-1): projection, geodesics, exponential and logarithm maps, sampling.

All functions work on one vector [d] or, along the last axis, on any leading shape.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sfm_jax.array_types import AnyArray, Number, Numbers
from sfm_jax.geometry.products import matmul

_TINY = 1e-12


def normalise(vector: Float[AnyArray, "*batch d"]) -> Float[Array, "*batch d"]:
    """vector / |vector|, with a zero (not NaN) gradient at the origin, where the north pole e_1 is returned."""
    squared = jnp.sum(vector * vector, axis=-1, keepdims=True)
    is_zero = squared <= _TINY**2
    unit = vector * jax.lax.rsqrt(jnp.where(is_zero, 1.0, squared))
    pole = jnp.zeros_like(vector).at[..., 0].set(1.0)
    return jnp.where(is_zero, pole, unit)


def angle(a: Float[AnyArray, "*batch d"], b: Float[AnyArray, "*batch d"]) -> Float[Array, "*batch"]:
    """Geodesic distance in radians between unit vectors: 2 atan2(|a - b|, |a + b|), exact at 0 and pi (Kahan)."""
    return 2.0 * jnp.arctan2(_norm(a - b), _norm(a + b))


def slerp(
    a: Float[AnyArray, "*batch d"], b: Float[AnyArray, "*batch d"], t: Numbers
) -> Float[Array, "*points d"]:
    """The point at fraction t of the geodesic from unit vector a to b (Shoemake 1985); t [] or of a shape that
    broadcasts with the leading one of a and b: [T] gives T points [T, d] between two vectors [d]."""
    tangent = jnp.asarray(t)[..., None] * logarithm(a, b)
    return exponential(jnp.broadcast_to(a, tangent.shape), tangent)


def exponential(base: Float[AnyArray, "*batch d"], tangent: Float[AnyArray, "*batch d"]) -> Float[Array, "*batch d"]:
    """exp_base(tangent) = cos|v| base + sin|v| v/|v|: walk |v| radians from `base` along `tangent`."""
    length = _norm(tangent)[..., None]
    return normalise(jnp.cos(length) * base + jnp.sinc(length / jnp.pi) * tangent)


def logarithm(base: Float[AnyArray, "*batch d"], point: Float[AnyArray, "*batch d"]) -> Float[Array, "*batch d"]:
    """log_base(point): the tangent vector at `base` whose exponential is `point`; its length is the angle.

    At the antipode, within 1e-6 of it, every direction is shortest; zero is returned there, because none can be
    preferred.
    """
    cosine = jnp.sum(base * point, axis=-1, keepdims=True)
    tangent = point - cosine * base
    length = _norm(tangent)[..., None]
    tiny = length <= jnp.where(cosine < 0, 1e-6, 1e-7)
    direction = tangent / jnp.where(tiny, 1.0, length)
    # Near the antipode the difference above is all rounding: once more, so that the tangent is tangent.
    direction = direction - jnp.sum(base * direction, axis=-1, keepdims=True) * base
    return jnp.where(tiny, jnp.where(cosine < 0, 0.0, tangent), direction * angle(base, point)[..., None])


def sample_uniform(rng: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Uniform unit vectors of `shape` [..., d]: a normalised Gaussian (Muller 1959)."""
    return normalise(jax.random.normal(rng, shape))


def sample_von_mises_fisher(
    rng: PRNGKeyArray, mean: Float[AnyArray, " d"], concentration: Number, count: int
) -> Float[Array, "{count} d"]:
    """`count` draws [count, d] of the von Mises-Fisher law around the unit vector `mean` [d].

    Density proportional to exp(concentration mean.x). Wood's rejection sampler (1994), with a Beta proposal for
    the cosine w to the mean. The acceptance rate is above 0.6 for every d and concentration; we draw 32
    proposals each and take the first accepted, so the law is exact up to a 1e-13 chance of falling back to the last.
    ValueError for d < 2, where there is no sphere.
    """
    dimension = mean.shape[-1]
    if dimension < 2:
        raise ValueError(f"mean: found shape {mean.shape}, expected [d] with d > 1")
    cosine_rng, accept_rng, direction_rng = jax.random.split(rng, 3)
    half = (dimension - 1) / 2.0
    b = half / (concentration + jnp.sqrt(concentration**2 + half**2))
    # All in distances from 1, which float32 tells apart where the law is narrow: 1 - cosine, and 1 - x0 of Wood's x0.
    short = 2.0 * b / (1.0 + b)
    rest = jax.random.beta(cosine_rng, half, half, (count, 32))
    away = 2.0 * b * (1.0 - rest) / (rest + b * (1.0 - rest))
    log_uniform = jnp.log(jax.random.uniform(accept_rng, (count, 32), minval=1e-30))
    ratio = (short + (1.0 - short) * away) / (short * (2.0 - short))  # (1 - x0 cosine) / (1 - x0^2)
    accepted = concentration * (short - away) + 2.0 * half * jnp.log(ratio) >= log_uniform
    first = jnp.where(accepted.any(1), accepted.argmax(1), 31)
    away = jnp.take_along_axis(away, first[:, None], axis=1)
    noise = jax.random.normal(direction_rng, (count, dimension))
    tangent = normalise(noise - matmul(noise, mean)[:, None] * mean)
    return normalise((1.0 - away) * mean + jnp.sqrt(jnp.maximum(away * (2.0 - away), 0.0)) * tangent)


def _norm(vector):
    squared = jnp.sum(vector * vector, axis=-1)
    is_zero = squared == 0.0
    return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, squared)))
