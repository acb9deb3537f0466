"""Residual networks: with pre-activation (He et al., ECCV 2016), and the "IR" form of face recognition.

IR is the improved residual unit of ArcFace (Deng et al., CVPR 2019): BN-conv-BN-PReLU-conv-BN, and an output of
BN-dropout-FC-BN that keeps the place of each feature.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray
from sfm_jax.networks.features import Features, batch_norm, normalise_image
from sfm_jax.networks.pooling import max_pool

STYLES = ("preactivation", "ir")
# Units in each of four stages.
STAGES = {
    ("preactivation", 18): (2, 2, 2, 2), ("preactivation", 34): (3, 4, 6, 3), ("preactivation", 50): (3, 4, 6, 3),
    ("ir", 18): (2, 2, 2, 2), ("ir", 34): (3, 4, 6, 3), ("ir", 50): (3, 4, 14, 3),
}


class ResNet(nn.Module):
    """sRGB images in [0, 1] -> Features, for S a multiple of 32 (preactivation) or 16 (ir).

    depth: 18, 34 or 50. "preactivation" pools by an average, to 512 numbers (2048 at depth 50); "ir" flattens its map
    and maps it to `features` numbers, so S is fixed by the first call, and wants an rng "dropout" if `dropout` > 0.
    """

    depth: int = 18
    style: str = "preactivation"
    features: int = 512
    dropout: float = 0.0
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[AnyArray, "B S S 3"], train: bool) -> Features:
        if (self.style, self.depth) not in STAGES:
            raise ValueError(f"ResNet: found style {self.style!r}, depth {self.depth}, expected one of "
                             f"{', '.join(STYLES)} and 18, 34, 50")
        options = {"train": train, "axis_name": self.axis_name, "dtype": self.dtype}
        x = normalise_image(images, self.dtype)
        return self._ir(x, options) if self.style == "ir" else self._preactivation(x, options)

    def _preactivation(self, x, options):
        norm = batch_norm(**options)
        x = _conv(64, 7, 2, self.dtype)(x)
        x = nn.relu(max_pool(norm()(x)))
        unit = BottleneckUnit if self.depth >= 50 else BasicUnit
        for channels, stride in self._units(strides=(1, 2, 2, 2)):
            x = unit(channels, stride, **options)(x)
        x = nn.relu(norm()(x))
        return Features(jnp.mean(x.astype(jnp.float32), (1, 2)), x)

    def _ir(self, x, options):
        norm = batch_norm(**options)
        x = PReLU()(norm()(_conv(64, 3, 1, self.dtype)(x)))
        for channels, stride in self._units(strides=(2, 2, 2, 2)):
            x = ImprovedUnit(channels, stride, **options)(x)
        x = norm()(x)
        y = nn.Dropout(self.dropout, deterministic=not options["train"])(x)
        y = nn.Dense(self.features, dtype=self.dtype)(y.reshape(len(y), -1))
        # The last norm has no scale: the length of an embedding says nothing.
        y = batch_norm(options["train"], self.axis_name, jnp.float32)(use_scale=False, name="features")(y)
        return Features(y, x)

    def _units(self, strides):
        """(channels, stride) of every unit."""
        for stage, count in enumerate(STAGES[self.style, self.depth]):
            for unit in range(count):
                yield 64 * 2**stage, 1 if unit else strides[stage]


class BasicUnit(nn.Module):
    """BN-ReLU-conv3x3-BN-ReLU-conv3x3, added to the identity; a changed shape is projected by a 1x1 convolution."""

    channels: int
    stride: int
    train: bool
    axis_name: str | None
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[AnyArray, "B H W C"]) -> Float[Array, "B h w D"]:
        norm = batch_norm(self.train, self.axis_name, self.dtype)
        y = nn.relu(norm()(x))
        changed = self.stride > 1 or x.shape[-1] != self.channels
        shortcut = pointwise(self.channels, self.stride, self.dtype)(y) if changed else x
        y = _conv(self.channels, 3, self.stride, self.dtype)(y)
        y = _conv(self.channels, 3, 1, self.dtype)(nn.relu(norm()(y)))
        return shortcut + y


class BottleneckUnit(nn.Module):
    """BN-ReLU-conv1x1-BN-ReLU-conv3x3-BN-ReLU-conv1x1 to 4 x channels, added to the identity."""

    channels: int
    stride: int
    train: bool
    axis_name: str | None
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[AnyArray, "B H W C"]) -> Float[Array, "B h w D"]:
        norm = batch_norm(self.train, self.axis_name, self.dtype)
        y = nn.relu(norm()(x))
        changed = self.stride > 1 or x.shape[-1] != 4 * self.channels
        shortcut = pointwise(4 * self.channels, self.stride, self.dtype)(y) if changed else x
        y = pointwise(self.channels, 1, self.dtype)(y)
        y = _conv(self.channels, 3, self.stride, self.dtype)(nn.relu(norm()(y)))
        y = pointwise(4 * self.channels, 1, self.dtype)(nn.relu(norm()(y)))
        return shortcut + y


class ImprovedUnit(nn.Module):
    """BN-conv3x3-BN-PReLU-conv3x3(stride)-BN, added to the identity (every other pixel of it at stride 2)."""

    channels: int
    stride: int
    train: bool
    axis_name: str | None
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[AnyArray, "B H W C"]) -> Float[Array, "B h w D"]:
        norm = batch_norm(self.train, self.axis_name, self.dtype)
        y = _conv(self.channels, 3, 1, self.dtype)(norm()(x))
        y = _conv(self.channels, 3, self.stride, self.dtype)(PReLU()(norm()(y)))
        if x.shape[-1] == self.channels:
            shortcut = x[:, ::self.stride, ::self.stride]
        else:
            shortcut = norm()(pointwise(self.channels, self.stride, self.dtype)(x))
        return shortcut + norm()(y)


class PReLU(nn.Module):
    """max(x, 0) + a min(x, 0) with a learned slope a for each channel, 0.25 at first (He et al., ICCV 2015)."""

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*batch C"]) -> Float[Array, "*batch C"]:
        slope = self.param("slope", nn.initializers.constant(0.25), (x.shape[-1],))
        return jnp.where(x > 0, x, slope.astype(x.dtype) * x)


def pointwise(channels: int, stride: int, dtype: DTypeLike) -> Callable[[jax.Array], jax.Array]:
    """A 1x1 convolution as a matrix product, whose gradient is one too: XLA on CPUs has no fast one of the other."""
    dense = nn.Dense(channels, use_bias=False, dtype=dtype, kernel_init=nn.initializers.he_normal())
    return lambda x: dense(x[:, ::stride, ::stride])


def _conv(channels, size, stride, dtype):
    return nn.Conv(channels, (size, size), stride, padding=size // 2, use_bias=False, dtype=dtype,
                   kernel_init=nn.initializers.he_normal())
