"""A small trunk for processors: inverted residual blocks (MobileNetV2, Sandler et al. 2018) where they are cheap."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from sfm_jax.networks.depthwise import DepthwiseConv
from sfm_jax.networks.trunk import Features, batch_norm, normalise_image

# Channels, blocks, expansion; each stage halves the map.
STAGES = ((64, 2, 2), (128, 4, 2), (256, 2, 2))


class InvertedBlock(nn.Module):
    """1x1 expansion, depthwise 3x3, 1x1 projection; added to its input where the shape stays."""

    channels: int
    expansion: int
    stride: int
    axis_name: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = batch_norm(train, self.axis_name, self.dtype)
        # A 1x1 convolution as a matrix product: the gradient is then one too, which XLA on CPUs does not see.
        y = nn.Dense(self.expansion * x.shape[-1], use_bias=False, dtype=self.dtype)(x)
        y = nn.relu(norm()(y))
        y = DepthwiseConv(stride=self.stride, dtype=self.dtype)(y)
        y = nn.relu(norm()(y))
        y = norm()(nn.Dense(self.channels, use_bias=False, dtype=self.dtype)(y))
        return x + y if y.shape == x.shape else y


class MobileTrunk(nn.Module):
    """sRGB images [B, S, S, 3] in [0, 1] -> Features of `features` numbers, made for S = 112.

    The pool is a learned weight for every place and channel (the global depthwise convolution of MobileFaceNet, Chen
    et al. 2018): an average could not say where in the crop the face is. So S is fixed by the first call.
    """

    width: float = 1.0
    features: int = 512
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> Features:
        norm = batch_norm(train, self.axis_name, self.dtype)
        x = normalise_image(images, self.dtype)
        x = nn.Conv(round(32 * self.width), (3, 3), 2, padding=1, use_bias=False, dtype=self.dtype)(x)
        x = nn.relu(norm()(x))
        x = nn.Conv(round(64 * self.width), (3, 3), 2, padding=1, use_bias=False, dtype=self.dtype)(x)
        x = nn.relu(norm()(x))
        for stage, (channels, blocks, expansion) in enumerate(STAGES):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                x = InvertedBlock(round(channels * self.width), expansion, stride, self.axis_name, self.dtype)(x, train)
        x = nn.relu(norm()(nn.Dense(self.features, use_bias=False, dtype=self.dtype)(x)))
        height, width, channels = x.shape[1:]
        average = nn.initializers.constant(1 / (height * width))
        weights = self.param("pool", average, (height, width, channels))
        pooled = jnp.sum(x.astype(jnp.float32) * weights, (1, 2))
        return Features(batch_norm(train, self.axis_name, jnp.float32)(name="features")(pooled), x)
