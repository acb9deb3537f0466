"""Photos of one's own: a folder `person/photo.jpg`, or a table of files and persons; landmarks beside the photos.

Landmarks of `photo.jpg` are read from the first of these that exists beside it:

    photo.npz   key `landmarks` [68, 2], and `landmark_mask` [68] if some are unknown: pixels, centres at +0.5
    photo.pts   iBUG's text format, whose first pixel is (1, 1): 0.5 is subtracted
    photo.txt   68 lines `x y`: pixels, centres at +0.5
"""

import csv
import logging
import os
from pathlib import Path

import numpy as np

from sfm_jax.array_files import numbers, one_line, read_npz
from sfm_jax.data.photo_sets import BadPhoto, PhotoList, RawPhoto, read_file

log = logging.getLogger(__name__)

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
LABEL_DELIMITERS = {".csv": ",", ".tsv": "\t"}


class LabelledFolder(PhotoList):
    """A folder `person/photo.jpg`: `people` are the sub-folders' names, sorted. Photos in the folder itself show nobody
    known. Or a table (.csv, .tsv) of lines `path, person`, paths relative to the table, no person: nobody known.

    A photo that the table names and that is not there is a bad photo, met when it is to be read.

    Raises:
      ValueError: no such folder or table, a line that is not understood, no photos.
    """

    def __init__(self, place: str | Path):
        place = Path(place)
        table = place.suffix.lower() in LABEL_DELIMITERS
        self._folder = place.parent if table else place
        found = _read_table(place) if table else _find(place)
        if not found:
            raise ValueError(f"{place}: no photos found, expected {'path, person' if table else 'person/photo.jpg'}")
        super().__init__([path for path, _ in found], [person for _, person in found])

    def raw(self, index):
        path = self._folder / self._paths[index]
        landmarks, mask = read_landmarks(path)
        return RawPhoto(read_file(path), str(path), int(self._labels[index]), landmarks, mask)


def _find(folder):
    """(path relative to the folder, person or "") of every photo, sorted."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder, expected person/photo.jpg")
    found, empty = [], []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            photos = sorted(filter(_is_photo, os.listdir(entry.path)))
            if not photos:
                empty.append(entry.name)
            found += [(f"{entry.name}/{name}", entry.name) for name in photos]
        elif _is_photo(entry.name):
            found.append((entry.name, ""))
    if empty and found:
        log.warning("%s: %d of its folders hold no photos and are left out, the first: %s; expected person/photo.jpg",
                    folder, len(empty), empty[0])
    return found


def _is_photo(name):
    return name.lower().endswith(PHOTO_SUFFIXES) and not name.startswith(".")


def _read_table(path):
    """(path, person or "") of every line; a first line `path, ...` is a header."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, delimiter=LABEL_DELIMITERS[path.suffix.lower()], strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a readable table of lines 'path, person' ({one_line(error)})") from None
    found = []
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and cells[0].lower() == "path"):
            continue
        if len(cells) != 2 or not cells[0]:
            raise ValueError(f"{path}: line {number}: found {len(cells)} cells, expected 2: path, person")
        found.append((cells[0], cells[1]))
    return found


def read_landmarks(photo: Path) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Landmarks [68, 2] and mask [68] of the file beside a photo, (None, None) if there is none, mask None: all known.

    Raises:
      BadPhoto: a file with something else in it.
    """
    for suffix, read in _READERS.items():
        path = photo.with_suffix(suffix)
        if path.exists():
            try:
                landmarks, mask = (part if part is None else numbers(path, "landmarks", part).astype(np.float64)
                                   for part in read(path))
            except (ValueError, OSError) as error:
                raise BadPhoto(f"{path}: not readable as 68 landmarks ({one_line(error)})") from None
            if landmarks.shape != (68, 2):
                raise BadPhoto(f"{path}: landmarks: found shape {landmarks.shape}, expected (68, 2)")
            return landmarks, mask
    return None, None


def _read_npz(path):
    arrays = read_npz(path)
    if "landmarks" not in arrays:
        raise ValueError(f"key 'landmarks' is missing, found {', '.join(arrays) or 'nothing'}")
    return arrays["landmarks"], arrays.get("landmark_mask")


def _read_pts(path):
    text = path.read_text()
    if "{" not in text or "}" not in text:
        raise ValueError("expected points between { and }")
    points = _points(text.partition("{")[2].partition("}")[0])
    return points - 0.5, None


def _read_txt(path):
    return _points(path.read_text()), None


def _points(text):
    return np.array([line.replace(",", " ").split() for line in text.splitlines() if line.strip()], np.float64)


_READERS = {".npz": _read_npz, ".pts": _read_pts, ".txt": _read_txt}
