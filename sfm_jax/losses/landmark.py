"""The landmark loss: where 68 points should be in the picture."""

import jax
import jax.numpy as jnp
import numpy as np

# How much each of the iBUG-68 points counts, after Chen et al. (TIP 2020): contour 2, eyes 5 with eyelids 15,
# nose 5, mouth 5 and its inner rim 10, brows 1; divided by their mean.
_RAW = np.ones(68, np.float32)
_RAW[:17], _RAW[27:36], _RAW[36:48], _RAW[48:60], _RAW[60:] = 2, 5, 5, 5, 10
_RAW[[37, 38, 40, 41, 43, 44, 46, 47]] = 15
WEIGHTS = _RAW / _RAW.mean()


def distance(predicted: jax.Array, truth: jax.Array) -> jax.Array:
    """Euclidean distance [..., 68] of points [..., 68, 2], with a zero gradient where they meet."""
    squared = jnp.sum((predicted - truth) ** 2, -1)
    return jnp.sqrt(squared + 1e-8)


def sample(maps: jax.Array, points: jax.Array) -> jax.Array:
    """Bilinear values [B, N] of maps [B, h, w] at points [B, N, 2], shares of the width and height in [0, 1].

    The centre of the first pixel is at half a pixel; beyond the outermost centres the border's value holds.
    """
    height, width = maps.shape[1:]
    x = jnp.clip(points[..., 0] * width - 0.5, 0, width - 1)
    y = jnp.clip(points[..., 1] * height - 0.5, 0, height - 1)
    return jax.vmap(lambda one, x, y: jax.scipy.ndimage.map_coordinates(one, [y, x], order=1, mode="nearest"))(
        maps, x, y)
