"""Clips: one person moving. Synthetic ones, rendered with every label known."""

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.data.scene import Scene
from sfm_jax.data.synthetic import SyntheticPhotos
from sfm_jax.geometry.products import einsum

KEYS = 4  # poses and expressions that a clip passes through


class SyntheticClips:
    """Clips of the people of `photos`: photo i is frame i mod F of clip i // F, which shows person clip mod P.

    A clip passes smoothly through four poses and expressions of the kind its photos have; light, colours, the camera's
    place and what stands around stay, noise and compression are each frame's own. Endless and deterministic.
    """

    def __init__(self, photos: SyntheticPhotos, clips: int, frames: int):
        """frames: of each clip. ValueError: clips of one frame."""
        if frames < 2:
            raise ValueError(f"data.clip_frames: found {frames}, expected 2 or more")
        self.photos, self._frames = photos, frames
        self.persons = clips  # who is in a clip is not told: a clip is its own person

    def __call__(self, ids: jax.Array) -> dict[str, jax.Array]:
        """Frames [B] int32 as photos of the source (see SyntheticPhotos.shoot); `person` is the clip."""
        return self.photos.shoot(self.scenes(ids))

    def labels(self, length: int) -> np.ndarray:
        """The clip [length] of the first frames."""
        return np.arange(length, dtype=np.int32) // self._frames

    def scenes(self, ids: jax.Array) -> Scene:
        """What the frames `ids` [B] int32 show, batched."""
        return self.arranged(ids, self.photos.scenes(self.needed(ids)))

    def needed(self, ids: jax.Array) -> jax.Array:
        """The source's photos [(1 + KEYS) B] of which the frames `ids` [B] are made."""
        clip = ids // self._frames
        return jnp.concatenate([clip, (clip[:, None] * KEYS + jnp.arange(KEYS)).reshape(-1)])

    def arranged(self, ids: jax.Array, drawn: Scene) -> Scene:
        """What the frames `ids` [B] show; drawn: the scenes of the photos that are `needed`."""
        scenes = jax.tree.map(lambda leaf: leaf[:len(ids)], drawn)
        frame = ids % self._frames
        weights = _key_weights(frame / (self._frames - 1))

        def passed(values):
            return einsum("bk,bk...->b...", weights, values[len(ids):].reshape(len(ids), KEYS, *values.shape[1:]))

        return scenes._replace(index=ids, label=ids // self._frames, pose=passed(drawn.pose),
                               expression=passed(drawn.expression),
                               damage=jax.vmap(jax.random.fold_in)(scenes.damage, frame))


def _key_weights(time):
    """Times [B] in [0, 1] -> how much of each key is shown [B, KEYS]: two at a time, the head at rest at each."""
    place = time * (KEYS - 1)
    distance = jnp.clip(jnp.abs(place[:, None] - jnp.arange(KEYS, dtype=place.dtype)), 0, 1)
    return 1 - distance**2 * (3 - 2 * distance)
