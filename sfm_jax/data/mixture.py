"""Photos of two kinds in every batch, some with identity labels, some with landmarks and 3D labels (SIR); or pairs.

Each part is synthetic, made on the device from the numbers of its photos, or read from a collection. A batch is
{part: what is loaded on the host}; `Mixture.records` makes one photo record of it, on the device, under jit.
"""

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.data.clips import SyntheticClips
from sfm_jax.data.pairs import Pairs
from sfm_jax.data.pipeline import Zipped, batches
from sfm_jax.data.scene import Scene
from sfm_jax.data.synthetic import SyntheticPhotos
from sfm_jax.errors import BadInput

FIELDS = ("image", "person", "landmarks", "landmark_mask", "rotation", "rotation_mask", "identity", "expression",
          "codes_mask", "edges", "id")
LABELS = {  # part, in the order of a batch -> the labels a photo of it does not carry
    "pairs": (),
    "clips": ("rotation_mask", "codes_mask"),  # the person is the clip
    "identity": ("landmark_mask", "rotation_mask", "codes_mask"),
    "landmarks": ("person",),
    "all": (),
}
CLASSES = ("pairs", "identity", "all")  # parts whose persons are people to be told apart
SIZES = "batch_size over the devices"  # the key in a mixture's sources
OWN = ("index", "pose", "zoom", "where", "damage")  # what a turned copy does not share with its photo


class SyntheticPart:
    """The first `length` photos of a synthetic source, or frames of its clips. On the host a photo is a number."""

    rows = 1  # of the batch for each sample

    def __init__(self, source: SyntheticPhotos | SyntheticClips, length: int):
        """ValueError: no photos."""
        if length < 1:
            raise ValueError(f"data.synthetic_photos: found {length}, expected 1 or more")
        self._source, self.length, self.persons = source, length, source.persons
        self._clips = source if isinstance(source, SyntheticClips) else None
        self.photos: SyntheticPhotos = source.photos if self._clips else source

    def load(self, indices: np.ndarray, epochs: np.ndarray) -> dict[str, np.ndarray]:
        """{"id": [b]}: every epoch shows the same photos."""
        return {"id": indices.astype(np.int32)}

    def source(self) -> str:
        """Nothing: the config says all of synthetic photos."""
        return ""

    def labels(self) -> np.ndarray:
        """The person, or clip, [length] of every photo."""
        return self._source.labels(self.length)

    def needed(self, batch: dict) -> jax.Array:
        """The photos [n] of which what a batch shows is made."""
        ids = self._clips.needed(batch["id"]) if self._clips else batch["id"]
        return jnp.concatenate([ids, batch["scene"]]) if "scene" in batch else ids

    def arranged(self, batch: dict, drawn: Scene) -> Scene:
        """What a batch shows; drawn: the scenes of the photos that are `needed`."""
        if "scene" in batch:  # turned copies: the photo's own pose, place in the crop and noise, in another's scene
            own, shown = _cut(drawn, [batch["id"], batch["scene"]])
            return shown._replace(**{name: getattr(own, name) for name in OWN})
        return self._clips.arranged(batch["id"], drawn) if self._clips else drawn


class PhotoPart:
    """A collection of photos; see data/photos.py."""

    rows = 1

    def __init__(self, photos):
        self._photos = photos
        self.length, self.persons = len(photos), photos.persons

    def load(self, indices: np.ndarray, epochs: np.ndarray) -> dict[str, np.ndarray]:
        return self._photos.load(indices, epochs)

    def labels(self) -> np.ndarray:
        return self._photos.source.labels()

    def source(self) -> str:
        """Which photos these are, of which people: another text where any is added, removed or renamed."""
        return f"{self.length} photos of {self.persons} people ({self._photos.source.fingerprint()})"

    def names(self) -> list[str]:
        """Of all photos, as their source calls them."""
        return [self._photos.source.name(index) for index in range(self.length)]

    def record(self, batch: dict) -> dict:
        """Photo records of a batch, with true normals, of which none are known."""
        image = batch["image"].astype(jnp.float32) / 255
        return {name: batch[name] for name in FIELDS} | {"image": image, "normals": jnp.zeros_like(image)}


class Mixture:
    """Parts by name (of LABELS, in its order) and their shares of the batch, which add up to 1."""

    def __init__(self, parts: dict[str, SyntheticPart | PhotoPart | Pairs], shares: dict[str, float],
                 batch_size: int = 0):
        """batch_size: of the whole run, for `sources`; 0: they do not say how the parts share it. ValueError: synthetic
        parts of two sources."""
        self._parts, self._shares, self._batch_size = parts, shares, batch_size
        of = {name: part.part if isinstance(part, Pairs) else part for name, part in parts.items()}
        self._read = {name: part for name, part in of.items() if isinstance(part, PhotoPart)}
        self._synthetic = {name: part for name, part in of.items() if isinstance(part, SyntheticPart)}
        if len({id(part.photos) for part in self._synthetic.values()}) > 1:
            raise ValueError(f"data: {' and '.join(self._synthetic)} are of two synthetic sources, expected one")
        self.persons = sum(part.persons for name, part in parts.items() if name in CLASSES)

    def part(self, name: str) -> "SyntheticPart | PhotoPart | Pairs":
        """The part of that name."""
        return self._parts[name]

    def sources(self) -> dict[str, str]:
        """{config key: which photos} of the parts that are collections; and, of several parts, how many photos of each
        a batch of the whole run has, which another number of devices may change."""
        found = {f"data.{name}": part.source() for name, part in self._parts.items()}
        if len(self._parts) > 1 and self._batch_size:
            processes = jax.process_count()
            sizes = self._sizes(self._batch_size // processes)
            found[SIZES] = " + ".join(f"{processes * size} {name}" for name, size in sizes.items())
        return {key: which for key, which in found.items() if which}

    def dataset(self, batch_size: int, seed: int):
        """Endless batches of this process, {part: ...}. BadInput if a part gets no photo of every device's share."""
        devices, least, sizes = jax.local_device_count(), self._least(), self._sizes(batch_size)
        if any(sizes[name] < step for name, step in least.items()):
            raise BadInput(f"batch_size: {batch_size} photos a process leave none for a part of the data: {sizes}")
        if any(part.rows > 1 and sizes[name] % least[name] for name, part in self._parts.items()):
            raise BadInput(f"batch_size: {batch_size} photos a process are no whole pairs on each of its {devices} "
                           f"devices: {sizes}")
        # Parts of one source must not show the same photos in the same batch.
        return Zipped({name: batches(part.length, sizes[name] // part.rows, len(sizes) * seed + number, part.load)
                       for number, (name, part) in enumerate(self._parts.items())})

    def _least(self):
        """{part: the fewest photos of a process's batch}: one sample for each device."""
        return {name: part.rows * jax.local_device_count() for name, part in self._parts.items()}

    def _sizes(self, batch_size):
        """{part: photos of a process's batch}: its share, rounded to as many samples for every device; the last part
        has the rest."""
        sizes = {name: round(self._shares[name] * batch_size / step) * step for name, step in self._least().items()}
        last = list(sizes)[-1]
        return sizes | {last: batch_size - sum(size for name, size in sizes.items() if name != last)}

    @jax.named_scope("input")
    def records(self, batch: dict, surface: bool = False) -> dict:
        """One photo record of a batch, images float32 in [0, 1]; labels that a part does not carry are masked.

        surface: true normals [B, S, S, 3] too, unit, in camera axes; 0 where they are not known, or not seen.
        """
        records = {name: part.record(batch[name]) for name, part in self._read.items()} | self._drawn(batch)
        parts = [_without(records[name], LABELS[name]) for name in self._parts]
        fields = (*FIELDS, "normals") if surface else FIELDS
        return {name: jnp.concatenate([part[name] for part in parts]) for name in fields}

    def _drawn(self, batch):
        """{part: its records} of the synthetic parts. All are drawn and rendered as one: each by itself would take the
        compiler as long again."""
        parts = self._synthetic
        if not parts:
            return {}
        photos = next(iter(parts.values())).photos
        needed = [part.needed(batch[name]) for name, part in parts.items()]
        drawn = _cut(photos.scenes(jnp.concatenate(needed)), needed)
        scenes = [part.arranged(batch[name], scene) for (name, part), scene in zip(parts.items(), drawn, strict=True)]
        record = photos.shoot(jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *scenes))
        seen = jnp.where(record["mask"][..., None] > 0.9, record["normals"], 0.0)
        records = {name: record[name] for name in FIELDS} | {"normals": seen}
        return dict(zip(parts, _cut(records, [scene.index for scene in scenes]), strict=True))


def _cut(tree, parts):
    """The arrays [N, ...] of a tree in pieces, as many rows each as the arrays `parts` have, N in all."""
    ends = np.cumsum([len(part) for part in parts])
    return [jax.tree.map(lambda leaf, part=part, end=end: leaf[end - len(part):end], tree)
            for part, end in zip(parts, ends, strict=True)]


def _without(record, labels):
    hidden = {name: jnp.full_like(record[name], -1) if name == "person" else jnp.zeros_like(record[name])
              for name in labels}
    return record | hidden
