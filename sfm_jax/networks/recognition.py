"""A trunk that begins with what a face recognition network knows of people."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float

from sfm_jax.array_types import AnyArray
from sfm_jax.networks.compact import CompactTrunk
from sfm_jax.networks.face_recognition import SIZE, feature_maps, load_face_recognition
from sfm_jax.networks.features import Features, batch_norm

MAPS = 3  # of the recognition network, from its last: what a face is like, ever less where


class RecognitionTrunk(nn.Module):
    """sRGB images in [0, 1], S a multiple of 4 -> Features: a compact trunk's, and `known` more numbers.

    Those come from a ready-made recognition network (networks/face_recognition.py) that does not learn, as in MICA
    (Zielonka et al. 2022), and sees the crop as it is, not aligned; unlike there the means of three of its maps are
    read, for its last forgets much that recognition does not need (ours). The compact trunk sees what the other has
    learned to overlook: pose, expression, light.
    """

    known: int = 256
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[AnyArray, "B S S 3"], train: bool) -> Features:
        norm = batch_norm(train, self.axis_name, self.dtype)
        seen = CompactTrunk(axis_name=self.axis_name, dtype=self.dtype, name="compact")(images, train)
        resized = jax.image.resize(images, (len(images), SIZE, SIZE, 3), "linear")
        maps = feature_maps(load_face_recognition(), resized)[-MAPS:]
        means = jnp.concatenate([jnp.mean(one, (1, 2)) for one in maps], -1)
        # Numbers of different size, which do not learn, so that no scale of theirs is learned either.
        means = norm(use_scale=False, use_bias=False, name="means")(means)
        known = nn.Dense(self.known, use_bias=False, dtype=self.dtype)(means)
        known = nn.relu(norm(name="features")(known)).astype(jnp.float32)
        return Features(jnp.concatenate([seen.pooled, known], -1), seen.map, known)
