"""Random numbers of many keys at once: to the compiler every draw is a loop of its own, of some tenths of a second."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def rows(draw: Callable[..., jax.Array], length: int, **keys: jax.Array) -> dict[str, jax.Array]:
    """By name the first `length` numbers of each key, as `draw` (jax.random.uniform, normal, exponential) makes them.

    The numbers of a longer row begin with those of a shorter one: a row may be as long as the longest needs.
    """
    return dict(zip(keys, jax.vmap(lambda key: draw(key, (length,)))(jnp.stack(list(keys.values()))), strict=True))


def between(uniform: jax.Array, low: float | jax.Array, high: float | jax.Array) -> jax.Array:
    """Numbers of [0, 1) -> of [low, high)."""
    return uniform * (high - low) + low
