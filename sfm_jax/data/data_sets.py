"""Photos of prepared data sets of TensorFlow Datasets, as array_record: the published ones, and shards of one's own.

Reading needs no TensorFlow; preparing a published set does (`pip install -e .[prepare]`, then
`tfds build NAME --file_format=array_record`).
"""

import functools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from sfm_jax.array_files import one_line
from sfm_jax.data.aflw import rotation_from_pose
from sfm_jax.data.photo_sets import BadPhoto, RawPhoto, digest

MANIFEST = "photos.json"  # of finished shards (shards.py)
_DAMAGED = (RuntimeError, ValueError)  # array_record checks every record's hash


class DataSetPhotos:
    """A split of a TFDS data set. `layout` makes the RawPhoto's fields of an example (`person`: one of `people`).
    content: of the data set, another text where it holds other photos."""

    def __init__(self, data: Sequence[dict], title: str, people: Sequence[str], layout: Callable[[dict], dict],
                 content: str = ""):
        self.people, self._data, self._title, self._layout, self._content = people, data, title, layout, content
        self._number = {person: index for index, person in enumerate(people)} | {"": -1}

    @property
    def persons(self) -> int:
        return len(self.people)

    def __len__(self):
        return len(self._data)

    def labels(self):
        """See PhotoSource; nobody is known of a photo that cannot be read."""
        return np.array([self._label(index) for index in range(len(self))], np.int32)

    def _label(self, index):
        try:
            return self.raw(index).person
        except BadPhoto:
            return -1

    def name(self, index):
        """The photo's own name if the data set has names and it can be read, else the data set's and the number."""
        try:
            return self.raw(index).name
        except BadPhoto:
            return self._titled(index)

    def _titled(self, index):
        return f"{self._title}[{index}]"

    def fingerprint(self):
        return digest(self._title, len(self), self.people, self._content)

    def raw(self, index):
        try:
            example = self._data[index]
        except _DAMAGED as error:
            raise BadPhoto(f"{self._titled(index)}: not a readable record ({one_line(error)})") from None
        try:
            fields = {"name": self._titled(index)} | self._layout(example)
            return RawPhoto(**fields | {"person": self._number[fields.get("person", "")]})
        except (IndexError, KeyError, TypeError, ValueError) as error:  # another data set's metadata beside it
            raise BadPhoto(f"{self._titled(index)}: not a record of this data set ({one_line(error)})") from None


def open_data_set(place: str, content: str | None = None) -> DataSetPhotos:
    """A prepared data set: "NAME", "NAME/DATA_DIR" (absolute) or "/DIRECTORY/OF/A/VERSION"; then "#SPLIT" or "".

    Known by name are the300w_lp, aflw2k3d, lfw and celeb_a. Of any other, `image` is the photo and `label`, if there
    is one, the person: a class, a text or a whole number. The split is TFDS's, "train" or "test[:10%]"; "train" if
    not given. content: as of DataSetPhotos; None: the version and the size.

    Raises:
      ValueError: not known, not prepared, not as array_record, no such split, no images.
    """
    where, split = _parted(place, place.removeprefix(place.partition("/")[0]))
    split = split or "train"
    name, slash, data_dir = where.partition("/")
    try:
        if name:
            builder = tfds.builder(name, data_dir=slash + data_dir or None, file_format="array_record")
        else:
            builder = tfds.builder_from_directory(where)
        data = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    except Exception as error:  # TFDS raises its own kinds, AssertionError and NotImplementedError among them
        reason = one_line(str(error).strip(" \n\"").partition("\n")[0])
        raise ValueError(f"{place}: not readable as a TFDS data set, expected one prepared with "
                         f"--file_format=array_record and split {split!r} ({reason})") from None
    features = builder.info.features
    if "image" not in features:
        raise ValueError(f"{place}: found features {', '.join(features)}, expected an image")
    people, layout = LAYOUTS.get(builder.info.name) or _layout(features)
    if content is None:
        content = f"{builder.info.full_name}: {sum(part.num_bytes for part in builder.info.splits.values())} bytes"
    return DataSetPhotos(data, f"{builder.info.name}#{split}", people(data), layout, content)


def open_shards(place: str) -> DataSetPhotos:
    """Shards that `build_shards` wrote: "DIR" or "DIR#SPLIT". ValueError: none there, or not finished."""
    folder, split = _parted(place, place)
    manifest = Path(folder) / MANIFEST
    if not manifest.exists():
        raise ValueError(f"{folder}: {MANIFEST} is missing: no shards, or not finished; build them again to go on")
    try:
        content = str(json.loads(manifest.read_text())["fingerprint"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{manifest}: not the manifest of shards ({one_line(error)})") from None
    return open_data_set(f"{Path(folder).resolve()}#{split}", content)


def _parted(place, folder):
    """What stands before the last # and behind it. A folder that is there may have one in its own name."""
    where, mark, split = place.rpartition("#")
    return (where, split) if mark and not os.path.isdir(folder) else (place, "")


def _layout(features):
    """(people, fields) of a data set by what it holds: our own shards, or any images with labels."""
    if "label" not in features:
        return _nobody, _image
    if not isinstance(features["label"], tfds.features.ClassLabel):
        return _labels, _labelled
    names = tuple(features["label"].names)
    layout = _own if "landmark_mask" in features else _numbered
    return lambda data: names, functools.partial(layout, names=names)


def _labelled(example):
    return _image(example) | {"person": _person(example["label"])}


def _numbered(example, names):
    return _image(example) | {"person": names[example["label"]] if example["label"] >= 0 else ""}


def _own(example, names):
    """The fields that shards.py wrote; shards of before they had one say nothing of the extent."""
    def known(key, mask):
        return example[key] if np.any(mask) else None

    *centre, side = example["crop"]
    return _numbered(example, names) | {
        "name": example["name"].decode(),
        "landmarks": known("landmarks", example["landmark_mask"]),
        "landmark_mask": known("landmark_mask", example["landmark_mask"]),
        "rotation": known("rotation", example["rotation"]),
        "identity": known("identity", example["identity"].size), "box": (np.array(centre), side) if side else None,
        "expression": known("expression", example["expression"].size),
        "extent": example["extent"] if np.size(example.get("extent", ())) else None}


def _image(example):
    return {"image": example["image"]}


def _the300w_lp(example):
    """Coordinates are MATLAB pixels over 450; landmarks_3d are the projected 3D face's, hidden ones included."""
    return _image(example) | {
        "landmarks": 450.0 * example["landmarks_3d"] - 0.5, "rotation": rotation_from_pose(example["pose_params"]),
        "identity": example["shape_params"], "expression": example["exp_params"]}


def _aflw2k3d(example):
    return _image(example) | {"landmarks": 450.0 * example["landmarks_68_3d_xy_normalized"] - 0.5}


def _lfw(example):
    """Faces stand in the middle of 250 x 250 pixels; the square is ours, around scikit-learn's LFW slice."""
    return _labelled(example) | {"box": (np.array([125.0, 132.5]), 136.0)}


def _celeb_a(example):
    """The square hangs on eyes and mouth; its proportions are those of AFLW2000-3D's frontal faces."""
    points = {key: float(value) for key, value in example["landmarks"].items()}

    def middle(part):
        return np.array([[points[f"left{part}_{axis}"] + points[f"right{part}_{axis}"]] for axis in "xy"])[:, 0] / 2

    eyes, mouth = middle("eye") + 0.5, middle("mouth") + 0.5
    box = (eyes + 0.7 * (mouth - eyes), 3.2 * float(np.linalg.norm(mouth - eyes)))
    return _image(example) | {"person": str(example["identity"]["Identity_No"]), "box": box}


def _nobody(data):
    return ()


def _labels(data):
    """Every label there is, sorted, but those of records that cannot be read: reads the whole split once."""
    found = set()
    for index in range(len(data)):
        try:
            example = data[index]
        except _DAMAGED:  # told when the photo is to be shown
            continue
        found.add(_person(example["label"]))
    return tuple(sorted(found))


def _person(label):
    value = np.asarray(label)
    if value.shape or value.dtype.kind not in "iuS":
        raise ValueError(f"label: found {value.dtype} of shape {value.shape}, expected a text or a whole number")
    return label.decode() if value.dtype.kind == "S" else str(label)


LAYOUTS = {  # data set -> (the names of its people, the fields of a RawPhoto)
    "the300w_lp": (_nobody, _the300w_lp),
    "aflw2k3d": (_nobody, _aflw2k3d),
    "lfw": (_labels, _lfw),
    "celeb_a": (lambda data: tuple(str(number) for number in range(1, 10178)), _celeb_a),
}
