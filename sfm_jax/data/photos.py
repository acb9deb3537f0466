"""Photos of any collection as training records: cropped, changed, batched, and kept going past bad files.

A photo record is a dict of NumPy arrays, leading dimension B; S is the crop's side in pixels. A label that a photo
does not have is a mask of 0 (or a person of -1) over finite filler, never NaN.

    image          [B, S, S, 3] uint8 sRGB
    person         [B] int32, 0 .. persons - 1, or -1: unknown
    landmarks      [B, 68, 2] float32 pixels of the crop, x right, y down, pixel centres at +0.5, iBUG order
    landmark_mask  [B, 68] float32 0 or 1; a landmark outside the crop is still known
    rotation       [B, 3, 3] float32 object to camera: x right, y up, z to the viewer; the identity where unknown
    rotation_mask  [B] float32
    identity       [B, K], expression [B, E] float32 codes of the face model in use; zeros where unknown
    codes_mask     [B] float32
    edges          [B, 4, 3] float32 lines between which the crop shows the photo, black around it (crop.py); zeros: all
    id             [B] int32, the photo's number in its source
"""

import concurrent.futures
import dataclasses
import logging
import os
import threading

import numpy as np

from sfm_jax.data.aflw import AflwPhotos
from sfm_jax.data.augment import UNCHANGED, Augmentation
from sfm_jax.data.crop import crop_edges, crop_image, transform_points
from sfm_jax.data.data_sets import open_data_set, open_shards
from sfm_jax.data.frames import FrameFolder, VideoFolder
from sfm_jax.data.labelled_folder import LabelledFolder
from sfm_jax.data.photo_sets import BadPhoto, PhotoSource, check_labels, decode, photo_box
from sfm_jax.errors import BadInput

log = logging.getLogger(__name__)

DEFAULT_AUGMENTATION = Augmentation()
KINDS = {"folder": LabelledFolder, "aflw": AflwPhotos, "tfds": open_data_set, "shards": open_shards,
         "frames": FrameFolder, "videos": VideoFolder}
# A fraction is judged over at least so many photos, or all there are: one bad file at the start is no verdict.
_VERDICT_AFTER = 100


def open_photos(name: str) -> PhotoSource:
    """The collection that a config names.

    "folder:DIR" or "folder:LABELS.csv" (labelled_folder.py); "aflw:DIR", 300W-LP and AFLW2000-3D as published
    (aflw.py); "frames:DIR" and "videos:DIR", clips (frames.py); "tfds:NAME[/DATA_DIR][#SPLIT]" or "tfds:/DIR" and
    "shards:DIR" (shards.py).

    Raises:
      ValueError: another kind, or nothing there to read.
    """
    kind, colon, place = name.partition(":")
    if not colon or not place or kind not in KINDS:
        raise ValueError(f"photos: found {name!r}, expected one of {', '.join(f'{kind}:PLACE' for kind in KINDS)}")
    return KINDS[kind](place)


class Photos:
    """Records of a source. The same (photo, epoch) gives the same record, always, in any batch.

    A photo that cannot be used is replaced by the next one in number that can, under that one's own id; each is
    logged once, by name. When they are more than `max_bad_fraction` of the photos seen so far (of at least 100, or
    of all there are), loading stops with a BadInput error.
    """

    def __init__(self, source: PhotoSource, model_sizes: tuple[int, int], size: int,
                 augmentation: Augmentation | None = DEFAULT_AUGMENTATION, max_bad_fraction: float = 0.01,
                 seed: int = 0, threads: int = 0, mirror_people: bool = False):
        """model_sizes: numbers in the identity and expression codes of the face model in use. Codes of these sizes
        are taken to be its own, all others are masked. size: of the crops, pixels. augmentation None: plain crops.
        threads: that load the photos of a batch; 0 for one on each core. mirror_people: all photos of a person are
        mirrored in an epoch, or none is, as frames of a clip must be."""
        self.source, self.persons = source, source.persons
        self._sizes, self._size, self._augmentation, self._seed = model_sizes, size, augmentation, seed
        self._threads, self._tally = threads or usable_cores(), Tally(len(source), max_bad_fraction)
        self._mirror_people = mirror_people

    def __len__(self) -> int:
        return len(self.source)

    def load(self, indices: np.ndarray, epochs: np.ndarray | int = 0) -> dict[str, np.ndarray]:
        """The record of photos `indices` [B] as they look in `epochs` [B] (or one for all).

        Raises:
          BadInput: too many bad photos.
        """
        wanted = [*zip(map(int, indices), map(int, np.broadcast_to(epochs, len(indices))), strict=True)]
        rows = [None] * len(wanted)
        with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
            run = pool.map if self._threads > 1 else map
            while waiting := [place for place, row in enumerate(rows) if row is None]:
                tries = [(self._not_known_bad(wanted[place][0]), wanted[place][1]) for place in waiting]
                # Counted in the order of the batch, whichever thread was done first: the verdict is always the same.
                for place, (number, _), found in zip(waiting, tries, run(self._try, tries), strict=True):
                    if isinstance(found, BadPhoto):
                        self._tally.bad(number, str(found))
                    else:
                        self._tally.good(number)
                        rows[place] = found
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def bad(self) -> dict[str, str]:
        """Name and reason of every bad photo met so far."""
        return {self.source.name(index): reason for index, reason in sorted(self._tally.reasons.items())}

    def _not_known_bad(self, index):
        """The first photo from `index` on, around the end, that is not known as bad."""
        for number in ((index + step) % len(self.source) for step in range(len(self.source))):
            if number not in self._tally.reasons:
                return number
        raise BadInput(f"photos: none of {len(self.source)} can be used, the first because of "
                       f"{next(iter(self._tally.reasons.values()))}")

    def _try(self, photo):
        """The record of a photo (number, epoch), or why there is none."""
        try:
            return self._row(*photo)
        except BadPhoto as error:
            return error

    def _row(self, index, epoch):
        raw = self.source.raw(index)
        image = decode(raw.image, raw.name)
        check_labels(raw, image.shape)
        change = self._change(index, raw.person, epoch)
        crop, affine = crop_image(image, change.box(photo_box(raw, image.shape)), self._size, change.roll,
                                  change.mirror)
        landmarks, mask = np.zeros((68, 2)), np.zeros(68)
        if raw.landmarks is not None:
            mask = np.ones(68) if raw.landmark_mask is None else raw.landmark_mask > 0
            landmarks = np.where(mask[:, None] > 0, transform_points(np.nan_to_num(raw.landmarks), affine), 0)
        return {
            "image": change.tone(crop) if self._augmentation else crop,
            "person": np.int32(raw.person),
            "landmarks": change.landmarks(landmarks).astype(np.float32),
            "landmark_mask": change.landmarks(mask).astype(np.float32),
            "rotation": np.eye(3, dtype=np.float32) if raw.rotation is None
            else change.rotation(raw.rotation).astype(np.float32),
            "rotation_mask": np.float32(raw.rotation is not None),
            **self._codes(raw, change.mirror),
            "edges": crop_edges(image, affine, raw.extent),
            "id": np.int32(index),
        }

    def _change(self, index, person, epoch):
        if not self._augmentation:
            return UNCHANGED
        change = self._augmentation.draw(self._seed, index, epoch)
        if not self._mirror_people or person < 0:
            return change
        return dataclasses.replace(change, mirror=self._augmentation.draw(self._seed, person, epoch).mirror)

    def _codes(self, raw, mirrored):
        """Codes where they are the model's. A mirrored face has others, which only the model could tell."""
        codes = (raw.identity, raw.expression)
        known = not mirrored and all(code is not None for code in codes)
        known = known and tuple(map(len, codes)) == tuple(self._sizes)
        identity, expression = codes if known else map(np.zeros, self._sizes)
        return {"identity": np.asarray(identity, np.float32), "expression": np.asarray(expression, np.float32),
                "codes_mask": np.float32(known)}


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Tally:
    """Good and bad photos, each counted once. Batches may be loaded by several threads at once."""

    def __init__(self, length: int, max_bad_fraction: float):
        self.reasons: dict[int, str] = {}
        self._seen = np.zeros(length, bool)
        self._limit, self._lock = max_bad_fraction, threading.Lock()

    def good(self, index: int):
        """Photo `index` was used."""
        self._seen[index] = True

    def bad(self, index: int, reason: str):
        """Photo `index` cannot be used. BadInput if that is one too many."""
        with self._lock:
            if index in self.reasons:
                return
            log.warning("photo %d is replaced: %s", index, reason)
            self.reasons[index] = reason
            self._seen[index] = True
            seen, bad = int(self._seen.sum()), len(self.reasons)
        if bad > self._limit * max(seen, min(_VERDICT_AFTER, len(self._seen))):
            raise BadInput(f"photos: {bad} of {seen} cannot be used, max_bad_fraction is {self._limit:g}; "
                           f"the first: {next(iter(self.reasons.values()))}")

    def __getstate__(self):
        return self.__dict__ | {"_lock": None}

    def __setstate__(self, state):
        self.__dict__.update(state | {"_lock": threading.Lock()})
