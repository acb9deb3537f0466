"""The U-Net from what a photo shows in UV space to a displacement map."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray

WIDTHS = (16, 24, 32, 48, 64)


class DisplacementNet(nn.Module):
    """UV maps, S a power of two -> displacement within +-limit, at first almost 0.

    After Chen et al. (TIP 2020): 3x3 convolutions, halved down to one texel and doubled up again, with skips that are
    added, no norm, and tanh at the end. widths: of the maps, from the finest; the last one holds for all coarser. The
    widths, and that maps are doubled by repeating texels, are ours.
    """

    limit: float
    widths: tuple[int, ...] = WIDTHS
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, maps: Float[AnyArray, "B S S C"]) -> Float[Array, "B S S"]:
        levels = (maps.shape[1] - 1).bit_length()
        widths = [self.widths[min(level, len(self.widths) - 1)] for level in range(levels + 1)]
        x = self._conv(widths[0])(maps.astype(self.dtype))
        skips = [x]
        for width in widths[1:]:
            x = self._conv(width, stride=2)(nn.leaky_relu(x, 0.2))
            skips.append(x)
        for width, skip in zip(widths[-2::-1], skips[-2::-1], strict=True):
            x = self._conv(width)(_doubled(nn.leaky_relu(x, 0.2))) + skip
        small = nn.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")
        x = nn.Conv(1, (3, 3), kernel_init=small, dtype=self.dtype)(nn.leaky_relu(x, 0.2))
        return self.limit * jnp.tanh(x[..., 0].astype(jnp.float32))

    def _conv(self, width, stride=1):
        return nn.Conv(width, (3, 3), stride, kernel_init=nn.initializers.he_normal(), dtype=self.dtype)


def _doubled(x):
    return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
