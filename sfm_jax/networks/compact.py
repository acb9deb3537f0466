"""A small residual trunk of plain 3x3 convolutions: what XLA's CPU backend runs fastest for what it computes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray
from sfm_jax.errors import BadInput
from sfm_jax.networks.features import Features, batch_norm, normalise_image

PATCH = 4  # pixels: the first layer sees patches as channels


class CompactTrunk(nn.Module):
    """sRGB images in [0, 1], S a multiple of 4 -> Features of `features` numbers, made for S = 112.

    The last map is narrowed and flattened, not averaged: where in the crop the face is must not be lost. So S is
    fixed by the first call. The map that is handed out is the last but one, twice as fine.
    """

    widths: tuple[int, ...] = (32, 64, 128, 256)  # of the stages; each but the first halves the map
    blocks: tuple[int, ...] = (1, 1, 2, 1)
    narrow: int = 48
    features: int = 512
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[AnyArray, "B S S 3"], train: bool) -> Features:
        norm = batch_norm(train, self.axis_name, self.dtype)
        x = patches(normalise_image(images, self.dtype), PATCH)
        x = nn.relu(norm()(nn.Conv(self.widths[0], (3, 3), use_bias=False, dtype=self.dtype)(x)))
        maps = []
        for stage, (width, count) in enumerate(zip(self.widths, self.blocks, strict=True)):
            for block in range(count):
                stride = 2 if stage and not block else 1
                x = ResidualBlock(width, stride, self.axis_name, self.dtype)(x, train)
            maps.append(x)
        flat = nn.Dense(self.narrow, dtype=self.dtype)(x).reshape(len(x), -1)
        pooled = nn.Dense(self.features, use_bias=False, dtype=self.dtype)(flat)
        return Features(nn.relu(norm(name="features")(pooled)).astype(jnp.float32), maps[-2])


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, added to their input (He et al. 2016), which is averaged where the map is halved."""

    width: int
    stride: int
    axis_name: str | None
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[AnyArray, "B H W C"], train: bool) -> Float[Array, "B h w D"]:
        norm = batch_norm(train, self.axis_name, self.dtype)
        y = nn.relu(norm()(nn.Conv(self.width, (3, 3), self.stride, use_bias=False, dtype=self.dtype)(x)))
        y = norm()(nn.Conv(self.width, (3, 3), use_bias=False, dtype=self.dtype)(y))
        if self.stride > 1:
            with jax.numpy_dtype_promotion("standard"):  # flax divides by a NumPy integer
                x = nn.avg_pool(x, (self.stride, self.stride), (self.stride, self.stride), padding="SAME")
        if x.shape[-1] != self.width:
            x = nn.Dense(self.width, use_bias=False, dtype=self.dtype)(x)
        return nn.relu(x + y)


def patches(
    images: Float[AnyArray, "B H W C"], side: int
) -> Float[AnyArray, "B H//{side} W//{side} {side}*{side}*C"]:
    """Squares of side x side pixels as channels. BadInput if there is no whole number of them."""
    count, height, width, channels = images.shape
    if height % side or width % side:
        raise BadInput(f"image_size: found {height} x {width} pixels, expected multiples of {side} for this trunk")
    x = images.reshape(count, height // side, side, width // side, side, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(count, height // side, width // side, side * side * channels)
