"""What a collection of photos is: one photo as it was found, with its labels, and how its file is read."""

import dataclasses
import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps

from sfm_jax.array_files import one_line
from sfm_jax.data.crop import landmark_box

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Pillow's names of what is read. It knows many more, and for some starts other programs (Ghostscript)."""
_BITS_PER_SAMPLE = 258  # a TIFF's tag


class BadPhoto(ValueError):
    """One photo or its labels cannot be used. The message names the file and the reason."""


@dataclasses.dataclass(frozen=True)
class RawPhoto:
    """One photo as it was found. None or -1 is a label that it does not have.

    image: the bytes of an image file, or [H, W, 3] uint8 sRGB; name: for messages; person: 0 .. persons - 1;
    landmarks [68, 2]: pixels of the upright photo, x right, y down, pixel centres at +0.5, in iBUG order, of which
    landmark_mask [68] are known (None: all); rotation [3, 3]: object to camera, x right, y up, z to the viewer;
    identity [K], expression [E]: codes of the face model that the labels were made with, in its units;
    box: (centre [2], side), the square to crop where there are no landmarks (None: the middle of the photo);
    extent [4]: left, top, right and bottom, in pixels, of what is photo and not black around it (None: all).
    """

    image: bytes | np.ndarray
    name: str
    person: int = -1
    landmarks: np.ndarray | None = None
    landmark_mask: np.ndarray | None = None
    rotation: np.ndarray | None = None
    identity: np.ndarray | None = None
    expression: np.ndarray | None = None
    box: tuple[np.ndarray, float] | None = None
    extent: np.ndarray | None = None


class PhotoSource(Protocol):
    """A finite collection of photos, numbered 0 .. len(source) - 1; `people` are the names of its identity classes."""

    people: Sequence[str]

    @property
    def persons(self) -> int: ...

    def __len__(self) -> int: ...

    def labels(self) -> np.ndarray:
        """The person [len] of every photo, -1: nobody known."""

    def name(self, index: int) -> str:
        """A name by which a person finds the photo."""

    def raw(self, index: int) -> RawPhoto:
        """The photo and its labels. BadPhoto if either cannot be used."""

    def fingerprint(self) -> str:
        """Another one when photos or persons are added, removed or renamed. Where photos are files of their own, not
        when one's contents change."""


class PhotoList:
    """What is known of photos in files before one is read: a PhotoSource but for `raw`.

    paths: by which photos are found, and named; persons: of each, "" if nobody is known.
    """

    def __init__(self, paths: Sequence[str], persons: Sequence[str]):
        self.people = tuple(sorted(set(persons) - {""}))
        number = {person: index for index, person in enumerate(self.people)} | {"": -1}
        self._paths, self._labels = list(paths), np.array([number[person] for person in persons], np.int32)

    @property
    def persons(self) -> int:
        return len(self.people)

    def __len__(self):
        return len(self._paths)

    def labels(self):
        return self._labels

    def name(self, index):
        return self._paths[index]

    def fingerprint(self):
        return digest(self._paths, self._labels.tolist(), self.people)


def digest(*parts) -> str:
    """A short hash of arrays, and of things with a stable repr."""
    total = hashlib.sha256()
    for part in parts:
        total.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else repr(part).encode())
    return total.hexdigest()[:16]


def read_file(path: Path) -> bytes:
    """The bytes of a file. BadPhoto if there is none, or it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadPhoto(f"{path}: {(error.strerror or str(error)).lower()}") from None


def open_image(file: str | os.PathLike | io.BytesIO) -> Image.Image:
    """A picture of FORMATS whose pixels are not read yet. Whatever Pillow raises, if it is none."""
    Image.init()  # Pillow knows most formats only then
    return Image.open(file, formats=FORMATS)


def decode(image: bytes | np.ndarray, name: str) -> np.ndarray:
    """[H, W, 3] uint8 RGB of an image file's bytes, upright.

    Turned as its EXIF orientation says; grey, palette and CMYK converted (colour profiles are not applied); 16 bits
    scaled to 8; transparent pixels laid over white; of an animation the first frame. Arrays pass through.

    Raises:
      BadPhoto: nothing in the file, no image of FORMATS, damaged, of a depth without a known range (32 bits, float), or
        of more than Pillow's 179 million pixels.
    """
    if isinstance(image, np.ndarray):
        return image
    if not image:
        raise BadPhoto(f"{name}: the file is empty, expected an image")
    try:
        picture = open_image(io.BytesIO(image))
        _check_depth(picture)
        picture.load()
        # Without an orientation the picture itself is kept: transposing copies it.
        picture = ImageOps.exif_transpose(picture) if picture.getexif().get(0x0112, 1) != 1 else picture
        return np.asarray(_rgb(picture))
    except Image.UnidentifiedImageError:
        raise BadPhoto(f"{name}: not an image of a known format") from None
    except Exception as error:  # damaged files make Pillow raise OSError, SyntaxError, struct.error and others
        raise BadPhoto(f"{name}: not readable as an image ({one_line(error)})") from None


def _check_depth(picture):
    """ValueError unless deep grey has 16 bits. Pillow's mode I does not tell them from 32; a TIFF's tag does."""
    bits = getattr(picture, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))
    if picture.mode.startswith("I") and bits != (16,):
        raise ValueError(f"grey of {bits[0]} bits, expected 8 or 16 bits")


def _rgb(picture):
    if picture.mode.startswith("I"):
        deep = np.asarray(picture).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise ValueError(f"grey values {deep.min()} to {deep.max()}, expected 8 or 16 bits")
        return Image.fromarray(((deep + 128) // 257).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise ValueError("float pixels, expected 8 or 16 bits")
    if "transparency" in picture.info or picture.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def photo_box(raw: RawPhoto, shape: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """The square (centre [2], side) to crop of a photo [H, W, ...]: around the landmarks, else as given by the
    source, else the largest one in the middle."""
    if raw.landmarks is not None:
        return landmark_box(np.asarray(raw.landmarks, np.float64), raw.landmark_mask)
    if raw.box is not None:
        return raw.box
    height, width = shape[:2]
    return np.array([width / 2, height / 2]), float(min(height, width))


def check_labels(raw: RawPhoto, shape: tuple[int, ...]):
    """BadPhoto if a label of a photo [H, W, ...] has a wrong shape, is not finite, or cannot belong to it.

    Landmarks may lie outside the photo, as those of a cut-off chin do, but not by more than their box's side.
    """
    expected = {"landmarks": (68, 2), "landmark_mask": (68,), "rotation": (3, 3), "extent": (4,)}
    for key in ("landmarks", "landmark_mask", "rotation", "identity", "expression", "extent"):
        value = getattr(raw, key)
        if value is None:
            continue
        if np.shape(value) != expected.get(key, (np.size(value),)):
            raise BadPhoto(f"{raw.name}: {key}: found shape {np.shape(value)}, expected {expected.get(key, '[N]')}")
        if key != "landmarks" and not np.isfinite(value).all():
            raise BadPhoto(f"{raw.name}: {key}: found a number that is not finite")
    if raw.rotation is not None and np.abs(raw.rotation @ raw.rotation.T - np.eye(3)).max() > 1e-3:
        raise BadPhoto(f"{raw.name}: rotation: found a matrix that is not orthonormal")
    if raw.landmarks is not None:
        _check_landmarks(raw, shape)


def _check_landmarks(raw, shape):
    known = np.ones(68, bool) if raw.landmark_mask is None else np.asarray(raw.landmark_mask) > 0
    points = np.asarray(raw.landmarks)[known]
    if len(points) < 2 or not np.isfinite(points).all():
        raise BadPhoto(f"{raw.name}: landmarks: found {len(points)} known ones, "
                       f"{np.isfinite(points).all(-1).sum()} of them finite, expected at least 2, all finite")
    _, side = landmark_box(points)
    limits = np.array([shape[1], shape[0]])
    excess = np.maximum(-points, points - limits).max()
    if not side > 0 or excess > side:
        raise BadPhoto(f"{raw.name}: landmarks: one lies {max(excess, 0):.0f} pixels outside the photo of {shape[1]} x "
                       f"{shape[0]}, expected less than their box's side, {side:.0f}")
