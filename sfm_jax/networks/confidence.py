"""Two maps of how far a photo can be trusted, after SIR (Jiang et al. 2022): for its pixels and its landmarks."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray


class Confidence(NamedTuple):
    """In (0, 1): confidence 1 counts an error in full, 0 not at all."""

    pixel: Float[Array, "B h w"]
    landmark: Float[Array, "B h w"]


class ConfidenceMaps(nn.Module):
    """The trunk's last map -> Confidence, `upsampled` times as large.

    Every location speaks for itself, in two layers; logits are upsampled bilinearly. The logits start at `start`
    everywhere and stay within `bound`, so that the logarithm of a confidence is finite. With `stop_gradient` the maps
    do not shape the trunk.
    """

    hidden: int = 32
    upsampled: int = 4
    start: float = 2.0
    bound: float = 8.0
    stop_gradient: bool = True

    @nn.compact
    def __call__(self, features: Float[AnyArray, "B h w C"]) -> Confidence:
        features = features.astype(jnp.float32)
        if self.stop_gradient:
            features = jax.lax.stop_gradient(features)
        x = nn.relu(nn.Dense(self.hidden)(features))
        bias = nn.initializers.constant(self.start)
        small = nn.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")
        logits = nn.Dense(2, kernel_init=small, bias_init=bias)(x)
        batch, height, width, _ = logits.shape
        shape = (batch, self.upsampled * height, self.upsampled * width, 2)
        maps = nn.sigmoid(self.bound * jnp.tanh(jax.image.resize(logits, shape, "linear") / self.bound))
        return Confidence(maps[..., 0], maps[..., 1])
