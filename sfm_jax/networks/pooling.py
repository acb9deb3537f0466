"""Max pooling, with a gradient that is fast on CPUs: XLA's searches every window again, five times slower."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray


@jax.custom_vjp
def max_pool(x: Float[AnyArray, "B H W C"]) -> Float[Array, "B (H+1)//2 (W+1)//2 C"]:
    """3x3 windows of stride 2. On CPUs ties share the gradient."""
    return _pool(x)


def _forward(x):
    pooled = _pool(x)
    return pooled, (x, pooled)


def _backward(residuals, gradient):
    def searched(x, pooled, gradient):
        return jax.vjp(_pool, x)[1](gradient)

    def compared(x, pooled, gradient):
        # Image by image: XLA would otherwise compute the whole of it again for every reader of the result.
        return (jax.lax.map(lambda image: _image_gradient(*image), (x, pooled, gradient)),)

    return jax.lax.platform_dependent(*residuals, gradient, cpu=compared, default=searched)


max_pool.defvjp(_forward, _backward)


def _pool(x):
    return jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), [(0, 0), (1, 1), (1, 1), (0, 0)])


def _image_gradient(x, pooled, gradient):
    """x [H, W, C]: each number gets the gradient of the windows whose maximum it is."""
    height, width, _ = x.shape
    padded = jnp.pad(x, [(1, 1), (1, 1), (0, 0)], constant_values=-jnp.inf)
    offsets = [(i, j) for i in range(3) for j in range(3)]
    ties = sum((padded[i:i + height:2, j:j + width:2] == pooled).astype(x.dtype) for i, j in offsets)

    def spread(values, fill):
        """On the padded image's grid: a window's value at its middle, between fillers."""
        edges = [(1, 2, 1)] * 2
        return jax.lax.pad(values, jnp.asarray(fill, values.dtype), [*edges, (0, 0, 0)])

    maxima, shares = spread(pooled, jnp.inf), spread(gradient / ties, 0)
    return sum(jnp.where(x == maxima[2 - i:2 - i + height, 2 - j:2 - j + width],
                         shares[2 - i:2 - i + height, 2 - j:2 - j + width], 0) for i, j in offsets)
