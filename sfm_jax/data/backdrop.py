"""What stands behind and before a synthetic face: procedural backgrounds, shoulders and occluders, on the device.

Pure functions of a random key, one image each, linear RGB; pixel centres at +0.5. All shapes and ranges are ours.
"""

import jax
import jax.numpy as jnp


def texture(key: jax.Array, size: int) -> jax.Array:
    """A smooth random picture [size, size, 3]: coloured noise of three scales over a random tone, non-negative."""
    tone_key, spread_key, *keys = jax.random.split(key, 5)
    level, hue = jax.random.split(tone_key)
    # Most things are greyish: hues differ less than levels do.
    tone = jnp.exp(jax.random.uniform(level, minval=-3.5, maxval=-0.4) + 0.35 * jax.random.normal(hue, (3,)))
    spread = jax.random.uniform(spread_key, minval=0.0, maxval=0.7)
    noise = 0.0
    for one, cells, strength in zip(keys, (3, 7, 20), (1.0, 0.6, 0.4), strict=True):
        # Drawn in one row: of a batch's squares XLA compiles a loop that is ten times as long, for the same numbers.
        noises = jax.random.normal(one, (cells * cells * 4,)).reshape(cells, cells, 4)
        grey, coloured = jnp.split(noises, [1], -1)
        noise += strength * jax.image.resize(grey + 0.3 * coloured, (size, size, 3), "linear")
    return tone * jnp.exp(spread * noise)


def ellipse(size: int, centre: jax.Array, radii: jax.Array, angle: jax.Array, edge: float = 1.0) -> jax.Array:
    """Coverage [size, size] in [0, 1] of an ellipse (pixels, radians), its edge about `edge` pixels soft."""
    axis = jnp.arange(size, dtype=jnp.float32) + 0.5
    x, y = axis[None, :] - centre[0], axis[:, None] - centre[1]
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    u, v = (x * cosine + y * sine) / radii[0], (y * cosine - x * sine) / radii[1]
    # Distance to the outline, to first order: exact along the axes of a circle, close enough elsewhere.
    outside = (jnp.sqrt(u * u + v * v + 1e-12) - 1.0) * jnp.min(radii)
    return jnp.clip(0.5 - outside / edge, 0.0, 1.0)


def with_shoulders(key: jax.Array, background: jax.Array, neck: jax.Array, width: jax.Array) -> jax.Array:
    """background [S, S, 3] with a dressed body below the point `neck` [2] (pixels); `width` of the face in pixels."""
    shape_key, colour_key = jax.random.split(key)
    size = background.shape[0]
    spread = width * jax.random.uniform(shape_key, (2,), minval=jnp.array([1.0, 0.8]), maxval=jnp.array([1.6, 1.2]))
    centre = neck + jnp.array([0.0, 0.55]) * spread
    cover = ellipse(size, centre, spread, jnp.zeros(()))[..., None]
    return cover * 0.7 * texture(colour_key, size) + (1 - cover) * background


def occluder(key: jax.Array, size: int, probability: float) -> tuple[jax.Array, jax.Array]:
    """(colour [S, S, 3], coverage [S, S]) of something before the face: an ellipse, mostly over its rim, or nothing."""
    present, where, place, radii, angle, colour = jax.random.split(key, 6)
    direction, reach = jax.random.uniform(where) * 2 * jnp.pi, jax.random.uniform(place, minval=0.2, maxval=0.55)
    centre = size * (0.5 + reach * jnp.stack([jnp.cos(direction), jnp.sin(direction)]))
    radius = size * jax.random.uniform(radii, (2,), minval=0.05, maxval=0.25)
    cover = ellipse(size, centre, radius, jax.random.uniform(angle) * jnp.pi)
    return texture(colour, size), jnp.where(jax.random.bernoulli(present, probability), cover, 0.0)
