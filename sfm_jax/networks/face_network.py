"""From a photo to the codes of a face: a trunk, separate heads, and two maps of confidence."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray
from sfm_jax.networks.confidence import Confidence, ConfidenceMaps
from sfm_jax.networks.heads import FaceHeads, HeadCodes
from sfm_jax.networks.trunk import create_trunk


class FaceOutput(NamedTuple):
    """codes: what the heads say; features of the trunk; identity_features: those of them that come of face recognition,
    all if none do; confidence: maps of pixels and of landmarks."""

    codes: HeadCodes
    features: Float[Array, "B F"]
    identity_features: Float[Array, "B K"]
    confidence: Confidence


class FaceNetwork(nn.Module):
    """sRGB crops in [0, 1] -> FaceOutput. axis_name: the devices that share batch statistics.
    separate_heads: see FaceHeads."""

    trunk: str
    identity: int
    expression: int
    albedo: int
    separate_heads: bool = False
    axis_name: str | None = None
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images: Float[AnyArray, "B S S 3"], train: bool) -> FaceOutput:
        features = create_trunk(self.trunk, self.axis_name, jnp.dtype(self.dtype))(images, train)
        heads = FaceHeads(self.identity, self.expression, self.albedo, hidden=256, separate=self.separate_heads)
        known = features.pooled if features.known is None else features.known
        return FaceOutput(heads(features.pooled), features.pooled, known, ConfidenceMaps()(features.map))
