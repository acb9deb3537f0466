"""Synthetic photos as a collection (data/photo_sets.py), to be written to shards or looked at one by one."""

import io

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from sfm_jax.data.photo_sets import RawPhoto, digest
from sfm_jax.data.synthetic import SyntheticPhotos

_BATCH = 32  # rendered together, and kept until another batch is asked for


class SyntheticCollection:
    """The first `length` photos of a synthetic source, as PNG files with all labels that a collection can carry."""

    def __init__(self, photos: SyntheticPhotos, length: int):
        self._photos, self._length = photos, length
        self._render = jax.jit(photos.__call__)
        self._kept = (-1, {})
        self.people = tuple(f"person{number:05d}" for number in range(photos.persons))

    @property
    def persons(self) -> int:
        return len(self.people)

    def __len__(self):
        return self._length

    def name(self, index):
        return f"synthetic-{self._photos.seed}-{index:08d}.png"

    def fingerprint(self):
        shown = self._photos.people
        return digest("synthetic", self._photos.seed, self._photos.size, self._photos.conditions, self.people,
                      self._length, shown.identity, shown.albedo)

    def raw(self, index):
        record, row = self._batch(index // _BATCH), index % _BATCH
        file = io.BytesIO()
        Image.fromarray(np.uint8(np.round(255 * record["image"][row]))).save(file, "png")
        return RawPhoto(file.getvalue(), self.name(index), int(record["person"][row]),
                        np.asarray(record["landmarks"][row], np.float64), rotation=record["rotation"][row],
                        identity=record["identity"][row], expression=record["expression"][row])

    def _batch(self, number):
        if self._kept[0] != number:
            ids = number * _BATCH + jnp.arange(_BATCH, dtype=jnp.int32)
            self._kept = (number, jax.device_get(self._render(ids)))
        return self._kept[1]
