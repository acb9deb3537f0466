"""What stands behind and before a synthetic face: procedural backgrounds, shoulders and occluders, on the device.

Pure functions of a random key, one image each, linear RGB; pixel centres at +0.5. All shapes and ranges are ours.
"""

import jax
import jax.numpy as jnp

from sfm_jax.data.numbers import between, rows


def texture(key: jax.Array, size: int) -> jax.Array:
    """A smooth random picture [size, size, 3]: coloured noise of three scales over a random tone, non-negative."""
    tone_key, spread, coarse, middle, fine = jax.random.split(key, 5)
    level, hue = jax.random.split(tone_key)
    uniform = rows(jax.random.uniform, 1, level=level, spread=spread)
    normal = rows(jax.random.normal, 20 * 20 * 4, hue=hue, coarse=coarse, middle=middle, fine=fine)
    # Most things are greyish: hues differ less than levels do.
    tone = jnp.exp(between(uniform["level"], -3.5, -0.4) + 0.35 * normal["hue"][:3])
    spread = between(uniform["spread"], 0.0, 0.7)
    noise = 0.0
    for name, cells, strength in (("coarse", 3, 1.0), ("middle", 7, 0.6), ("fine", 20, 0.4)):
        grey, coloured = jnp.split(normal[name][:cells * cells * 4].reshape(cells, cells, 4), [1], -1)
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


def behind(key: jax.Array, size: int, neck: jax.Array, width: jax.Array) -> jax.Array:
    """A picture [S, S, 3] with a dressed body below the point `neck` [2] (pixels); `width` of the face in pixels."""
    picture_key, body_key = jax.random.split(key)
    shape_key, colour_key = jax.random.split(body_key)
    background, dress = jax.vmap(texture, (0, None))(jnp.stack([picture_key, colour_key]), size)
    spread = width * jax.random.uniform(shape_key, (2,), minval=jnp.array([1.0, 0.8]), maxval=jnp.array([1.6, 1.2]))
    centre = neck + jnp.array([0.0, 0.55]) * spread
    cover = ellipse(size, centre, spread, jnp.zeros(()))[..., None]
    return cover * 0.7 * dress + (1 - cover) * background


def occluders(key: jax.Array, size: int, probability: float) -> tuple[jax.Array, jax.Array]:
    """(colours [2, S, S, 3], coverages [2, S, S]) of what stands before the face; each is there with `probability`."""
    return jax.vmap(_occluder, (0, None, None))(jax.random.split(key, 2), size, probability)


def _occluder(key, size, probability):
    """An ellipse, mostly over the face's rim, or nothing."""
    present, where, place, radii, angle, colour = jax.random.split(key, 6)
    uniform = rows(jax.random.uniform, 2, present=present, where=where, place=place, radii=radii, angle=angle)
    direction, reach = uniform["where"][0] * 2 * jnp.pi, between(uniform["place"][0], 0.2, 0.55)
    centre = size * (0.5 + reach * jnp.stack([jnp.cos(direction), jnp.sin(direction)]))
    cover = ellipse(size, centre, size * between(uniform["radii"], 0.05, 0.25), uniform["angle"][0] * jnp.pi)
    return texture(colour, size), jnp.where(uniform["present"][0] < probability, cover, 0.0)
