"""Photos of two kinds in every batch: some with identity labels, some with landmarks and 3D labels (after SIR).

Each part is synthetic, made on the device from the numbers of its photos, or read from a collection. A batch is
{part: what is loaded on the host}; `Mixture.records` makes one photo record of it, on the device, under jit.
"""

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.data.pipeline import Zipped, batches
from sfm_jax.data.synthetic import SyntheticPhotos
from sfm_jax.errors import BadInput

FIELDS = ("image", "person", "landmarks", "landmark_mask", "rotation", "rotation_mask", "identity", "expression",
          "codes_mask", "id")
LABELS = {  # part -> the labels a photo of it does not carry
    "identity": ("landmark_mask", "rotation_mask", "codes_mask"),
    "landmarks": ("person",),
    "all": (),
}


class SyntheticPart:
    """The first `length` photos of a synthetic source. On the host a photo is a number."""

    def __init__(self, photos: SyntheticPhotos, length: int):
        self.photos, self.length, self.persons = photos, length, photos.persons

    def load(self, indices: np.ndarray, epochs: np.ndarray) -> dict[str, np.ndarray]:
        """{"id": [b]}: every epoch shows the same photos."""
        return {"id": indices.astype(np.int32)}

    def records(self, batch: dict) -> dict:
        record = self.photos(batch["id"])
        return {name: record[name] for name in FIELDS}


class PhotoPart:
    """A collection of photos; see data/photos.py."""

    def __init__(self, photos):
        self._photos = photos
        self.length, self.persons = len(photos), photos.persons

    def load(self, indices: np.ndarray, epochs: np.ndarray) -> dict[str, np.ndarray]:
        return self._photos.load(indices, epochs)

    def records(self, batch: dict) -> dict:
        return {name: batch[name] for name in FIELDS} | {"image": batch["image"].astype(jnp.float32) / 255}


class Mixture:
    """Parts by name (one of LABELS) and their shares of the batch, which add up to 1."""

    def __init__(self, parts: dict[str, SyntheticPart | PhotoPart], shares: dict[str, float]):
        self._parts, self._shares = parts, shares
        self.persons = sum(part.persons for name, part in parts.items() if "person" not in LABELS[name])

    def dataset(self, batch_size: int, seed: int):
        """Endless batches of this process, {part: ...}. BadInput if a part gets no photo of every device's share."""
        devices = jax.local_device_count()
        sizes = {name: int(round(self._shares[name] * batch_size / devices)) * devices for name in self._parts}
        last = list(sizes)[-1]
        sizes[last] = batch_size - sum(size for name, size in sizes.items() if name != last)
        if min(sizes.values()) < 1:
            raise BadInput(f"batch_size: {batch_size} photos a process leave none for a part of the data: {sizes}")
        # Parts of one source must not show the same photos in the same batch.
        return Zipped({name: batches(part.length, sizes[name], len(sizes) * seed + number, part.load)
                       for number, (name, part) in enumerate(self._parts.items())})

    def records(self, batch: dict) -> dict:
        """One photo record of a batch, images float32 in [0, 1]; labels that a part does not carry are masked."""
        parts = [_without(part.records(batch[name]), LABELS[name]) for name, part in self._parts.items()]
        return {name: jnp.concatenate([part[name] for part in parts]) for name in FIELDS}


def _without(record, labels):
    hidden = {name: jnp.full_like(record[name], -1) if name == "person" else jnp.zeros_like(record[name])
              for name in labels}
    return record | hidden
