"""A trunk of few parameters: the inverted residual blocks of MobileNetV2 (Sandler et al., CVPR 2018)."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray
from sfm_jax.networks.compact import PATCH, patches
from sfm_jax.networks.depthwise import DepthwiseConv
from sfm_jax.networks.features import Features, batch_norm, normalise_image


class MobileTrunk(nn.Module):
    """sRGB images in [0, 1], S a multiple of 4 -> Features of `features` numbers, made for S = 112.

    width multiplies every width. The pool is a learned weight for every place and channel, an average at first (the
    global depthwise convolution of MobileFaceNet, Chen et al. 2018): an average could not say where in the crop the
    face is. So S is fixed by the first call.
    """

    width: float = 1.0
    features: int = 512
    widths: tuple[int, ...] = (32, 64, 128)  # of the stages; each but the first halves the map
    blocks: tuple[int, ...] = (1, 3, 3)
    expansions: tuple[int, ...] = (2, 2, 4)
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[AnyArray, "B S S 3"], train: bool) -> Features:
        norm = batch_norm(train, self.axis_name, self.dtype)
        widths = [round(self.width * width) for width in self.widths]
        # Two by two patches: an 8x8 convolution of stride 4.
        x = patches(normalise_image(images, self.dtype), PATCH)
        x = norm()(nn.Conv(widths[0], (2, 2), use_bias=False, dtype=self.dtype)(x))
        for stage, (width, count, expansion) in enumerate(zip(widths, self.blocks, self.expansions, strict=True)):
            for block in range(count):
                stride = 2 if stage and not block else 1
                x = InvertedBlock(width, expansion, stride, self.axis_name, self.dtype)(x, train)
        x = nn.relu(norm()(nn.Dense(self.features, use_bias=False, dtype=self.dtype)(x)))
        _, height, width, _ = x.shape
        weights = self.param("pool", nn.initializers.constant(1 / (height * width)), x.shape[1:])
        pooled = jnp.sum(x.astype(jnp.float32) * weights, (1, 2))
        return Features(batch_norm(train, self.axis_name, jnp.float32)(name="features")(pooled), x)


class InvertedBlock(nn.Module):
    """1x1 expansion, depthwise 3x3, linear 1x1 projection; added to its input where the shape stays."""

    channels: int
    expansion: int
    stride: int
    axis_name: str | None
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[AnyArray, "B H W C"], train: bool) -> Float[Array, "B h w D"]:
        norm = batch_norm(train, self.axis_name, self.dtype)
        # 1x1 convolutions as matrix products: on CPUs the gradients of these are four times faster.
        y = nn.relu(norm()(nn.Dense(self.expansion * x.shape[-1], use_bias=False, dtype=self.dtype)(x)))
        y = nn.relu(norm()(DepthwiseConv(stride=self.stride, dtype=self.dtype)(y)))
        y = norm()(nn.Dense(self.channels, use_bias=False, dtype=self.dtype)(y))
        return x + y if y.shape == x.shape else y
