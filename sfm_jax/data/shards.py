"""Photos in array_record files under TensorFlow Datasets' metadata: the published sets, and shards of one's own.

Reading and writing need no TensorFlow; preparing a published set does (`pip install -e .[prepare]`, then
`tfds build NAME --file_format=array_record`). Shards written here are an ordinary TFDS data set, which
`tfds.builder_from_directory` opens, and so anything else that reads TFDS.
"""

import concurrent.futures
import dataclasses
import functools
import io
import itertools
import json
import logging
import math
import multiprocessing
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from sfm_jax.array_files import one_line
from sfm_jax.atomic_files import atomic_write
from sfm_jax.data.aflw import rotation_from_pose
from sfm_jax.data.crop import crop_image, transform_points
from sfm_jax.data.photo_sets import BadPhoto, PhotoSource, RawPhoto, check_labels, decode, digest, photo_box

log = logging.getLogger(__name__)

NAME = "photos"  # of data sets written here
MANIFEST = "photos.json"


class DataSetPhotos:
    """A split of a TFDS data set. `layout` makes the RawPhoto's fields of an example (`person`: one of `people`)."""

    def __init__(self, data: Sequence[dict], title: str, people: Sequence[str], layout: Callable[[dict], dict]):
        self.people, self._data, self._title, self._layout = people, data, title, layout
        self._number = {person: index for index, person in enumerate(people)} | {"": -1}

    @property
    def persons(self) -> int:
        return len(self.people)

    def __len__(self):
        return len(self._data)

    def labels(self):
        people = (self._layout(self._data[index]).get("person", "") for index in range(len(self)))
        return np.array([self._number[person] for person in people], np.int32)

    def name(self, index):
        """The photo's own name if the data set has names and it can be read, else the data set's and the number."""
        try:
            return self.raw(index).name
        except BadPhoto:
            return self._titled(index)

    def _titled(self, index):
        return f"{self._title}[{index}]"

    def fingerprint(self):
        return digest(self._title, len(self), self.people)

    def raw(self, index):
        try:
            example = self._data[index]
        except (RuntimeError, ValueError) as error:  # array_record checks every record's hash
            raise BadPhoto(f"{self._titled(index)}: not a readable record ({one_line(error)})") from None
        try:
            fields = {"name": self._titled(index)} | self._layout(example)
            return RawPhoto(**fields | {"person": self._number[fields.get("person", "")]})
        except (IndexError, KeyError, TypeError, ValueError) as error:  # another data set's metadata beside it
            raise BadPhoto(f"{self._titled(index)}: not a record of this data set ({one_line(error)})") from None


def open_data_set(place: str) -> DataSetPhotos:
    """A prepared data set: "NAME", "NAME/DATA_DIR" (absolute) or "/DIRECTORY/OF/A/VERSION"; then "#SPLIT" or "".

    Known by name are the300w_lp, aflw2k3d, lfw and celeb_a. Of any other, `image` is the photo and `label`, if there
    is one, the person: a class, a text or a whole number. The split is TFDS's, "train" or "test[:10%]"; "train" if
    not given.

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
    return DataSetPhotos(data, f"{builder.info.name}#{split}", people(data), layout)


def open_shards(place: str) -> DataSetPhotos:
    """Shards that `build_shards` wrote: "DIR" or "DIR#SPLIT". ValueError: none there, or not finished."""
    folder, split = _parted(place, place)
    if not (Path(folder) / MANIFEST).exists():
        raise ValueError(f"{folder}: {MANIFEST} is missing: no shards, or not finished; build them again to go on")
    return open_data_set(f"{Path(folder).resolve()}#{split}")


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
    """The fields that `_example` wrote."""
    def known(key, mask):
        return example[key] if np.any(mask) else None

    *centre, side = example["crop"]
    return _numbered(example, names) | {
        "name": example["name"].decode(),
        "landmarks": known("landmarks", example["landmark_mask"]),
        "landmark_mask": known("landmark_mask", example["landmark_mask"]),
        "rotation": known("rotation", example["rotation"]),
        "identity": known("identity", example["identity"].size), "box": (np.array(centre), side) if side else None,
        "expression": known("expression", example["expression"].size)}


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
    """Every label there is, sorted: reads the whole split once."""
    return tuple(sorted({_person(example["label"]) for example in data}))


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


@dataclasses.dataclass(frozen=True)
class Packing:
    """How photos are kept in shards.

    size: side in pixels of the square crops that are stored as JPEG, never enlarged; 0 keeps the files' own bytes;
    margin: side of what a crop shows, in sides of the box that training crops, so that there is room to vary it;
    quality: of the JPEG; photos_per_shard: one shard is built at a time by each process, and built again if killed.
    """

    size: int = 256
    margin: float = 1.5
    quality: int = 95
    photos_per_shard: int = 2048


def build_shards(source: PhotoSource, folder: str | Path, packing: Packing = Packing(), processes: int = 1,
                 max_bad_fraction: float = 0.01) -> dict:
    """Writes all photos of a source as shards, and what TFDS needs to read them. Returns the manifest.

    The manifest (photos.json, written last) holds the numbers of photos and persons, the packing, the name and the
    reason of every bad photo, which is left out, and a fingerprint of photos and packing. Called again after it was
    killed, it goes on: finished shards of the same fingerprint are kept.

    Raises:
      ValueError: more than max_bad_fraction of the photos are bad, the folder holds shards of other photos, or a name
        cannot be kept as it is: a person's of several lines or with blanks at its ends, any that is not UTF-8.
    """
    folder, fingerprint = Path(folder), digest(source.fingerprint(), packing)
    if (folder / MANIFEST).exists():
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["fingerprint"] != fingerprint:
            raise ValueError(f"{folder / MANIFEST}: finished shards of other photos or another packing; expected an "
                             "empty folder")
        return manifest
    _check_names(source)
    progress = folder / "progress"
    progress.mkdir(parents=True, exist_ok=True)
    count = -(-len(source) // packing.photos_per_shard)
    jobs = [_Job(folder, packing, fingerprint, number, count) for number in range(count)]
    _run([job for job in jobs if not job.done()], source, processes)
    reports = [job.report() for job in jobs]
    bad = {name: reason for report in reports for name, reason in report["bad"].items()}
    if len(bad) > max_bad_fraction * len(source):
        raise ValueError(f"{folder}: {len(bad)} of {len(source)} photos cannot be used, max_bad_fraction is "
                         f"{max_bad_fraction:g}; the first: {next(iter(bad.values()))}")
    for leftover in set(folder.glob(f"{NAME}-train.array_record-*")) - {job.path() for job in jobs}:
        leftover.unlink()  # of a build with another packing that was stopped
    _write_metadata(folder, source.people, reports)
    manifest = {"fingerprint": fingerprint, "photos": sum(report["photos"] for report in reports),
                "persons": source.persons, "packing": dataclasses.asdict(packing), "bad": bad}
    _write_json(folder / MANIFEST, manifest)
    shutil.rmtree(progress)
    return manifest


def _check_names(source):
    for person in source.people:
        if person.strip().splitlines() != [person]:  # TFDS keeps people's names in lines
            raise ValueError(f"person {person!r}: expected a name of one line, without blanks at its ends")
    photos = () if isinstance(source, DataSetPhotos) else map(source.name, range(len(source)))  # there they are UTF-8
    for name in itertools.chain(source.people, photos):
        if name != name.encode(errors="replace").decode():
            raise ValueError(f"{name!r}: expected a name in UTF-8")


def _run(jobs, source, processes):
    """Runs shards' jobs; every process gets the source once, and each of its shards in turn."""
    if processes <= 1:
        return _run_jobs(jobs, source)
    context = multiprocessing.get_context("spawn")  # forking a process that runs JAX may deadlock
    with concurrent.futures.ProcessPoolExecutor(processes, context) as pool:
        for share in [pool.submit(_run_jobs, jobs[first::processes], source) for first in range(processes)]:
            share.result()


def _run_jobs(jobs, source):
    for job in jobs:
        job.run(source)


@dataclasses.dataclass(frozen=True)
class _Job:
    """One shard of `count`: photos number * photos_per_shard and so on."""

    folder: Path
    packing: Packing
    fingerprint: str
    number: int
    count: int

    def report(self):
        return json.loads(self._report_path().read_text())

    def done(self):
        return self._report_path().exists() and self.report()["fingerprint"] == self.fingerprint

    def run(self, source):
        """Writes the shard, then its report: photos, bytes, and what was bad."""
        features = _features(source.people)
        partial = self.path().with_name(self.path().name + ".partial")
        report = {"fingerprint": self.fingerprint, "photos": 0, "bytes": 0, "bad": {}}
        writer = ArrayRecordWriter(str(partial), "group_size:1,uncompressed")  # JPEG does not compress again
        first = self.number * self.packing.photos_per_shard
        for index in range(first, min(first + self.packing.photos_per_shard, len(source))):
            try:
                example = _example(pack(source.raw(index), self.packing), source.name(index))
            except BadPhoto as error:
                log.warning("photo %d is left out: %s", index, error)
                report["bad"][source.name(index)] = str(error)
                continue
            record = features.serialize_example(features.encode_example(example))
            writer.write(record)
            report["photos"] += 1
            report["bytes"] += len(record)
        writer.close()
        partial.rename(self.path())
        _write_json(self._report_path(), report)

    def path(self):
        return self.folder / f"{NAME}-train.array_record-{self.number:05d}-of-{self.count:05d}"

    def _report_path(self):
        return self.folder / "progress" / f"{self.number:05d}.json"


def pack(raw: RawPhoto, packing: Packing) -> RawPhoto:
    """The photo as it is stored, its labels moved with it. BadPhoto if it cannot be used."""
    image = decode(raw.image, raw.name)
    check_labels(raw, image.shape)
    if not packing.size:
        return raw if isinstance(raw.image, bytes) else dataclasses.replace(raw, image=_encode(image, format="PNG"))
    centre, side = photo_box(raw, image.shape)
    size = min(packing.size, math.ceil(packing.margin * side))
    crop, affine = crop_image(image, (centre, packing.margin * side), size)
    landmarks = raw.landmarks if raw.landmarks is None else transform_points(np.nan_to_num(raw.landmarks), affine)
    box = (np.full(2, size / 2), size / packing.margin)
    return dataclasses.replace(raw, image=_encode(crop, format="JPEG", quality=packing.quality, subsampling=0),
                               landmarks=landmarks, box=box)


def _encode(image, **settings):
    file = io.BytesIO()
    Image.fromarray(image).save(file, **settings)
    return file.getvalue()


def _features(people):
    tensor = tfds.features.Tensor
    return tfds.features.FeaturesDict({
        "image": tfds.features.Image(shape=(None, None, 3)), "name": tfds.features.Text(),
        "label": tfds.features.ClassLabel(names=people),  # -1: nobody known
        "landmarks": tensor(shape=(68, 2), dtype=np.float32), "landmark_mask": tensor(shape=(68,), dtype=np.float32),
        "rotation": tensor(shape=(3, 3), dtype=np.float32),  # zeros: unknown
        "identity": tensor(shape=(None,), dtype=np.float32), "expression": tensor(shape=(None,), dtype=np.float32),
        "crop": tensor(shape=(3,), dtype=np.float32)})  # centre and side of the box; side 0: none


def _example(raw, name):
    def known(value, filler):
        return filler if value is None else np.asarray(value, np.float32)

    mask = raw.landmark_mask if raw.landmark_mask is not None else np.full(68, raw.landmarks is not None)
    return {"image": raw.image, "name": name, "label": raw.person,
            "landmarks": np.nan_to_num(known(raw.landmarks, np.zeros((68, 2), np.float32))),
            "landmark_mask": mask.astype(np.float32), "rotation": known(raw.rotation, np.zeros((3, 3), np.float32)),
            "identity": known(raw.identity, np.zeros(0, np.float32)),
            "expression": known(raw.expression, np.zeros(0, np.float32)),
            "crop": np.zeros(3, np.float32) if raw.box is None else np.array([*raw.box[0], raw.box[1]], np.float32)}


def _write_metadata(folder, people, reports):
    """dataset_info.json, features.json and the people's names, as TFDS expects them."""
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=NAME, version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name="")
    info = tfds.core.DatasetInfo(builder=identity, features=_features(people))
    info.set_file_format("array_record")
    template = tfds.core.ShardedFileTemplate(data_dir=folder, dataset_name=NAME, split="train",
                                             filetype_suffix="array_record")
    split = tfds.core.SplitInfo(name="train", shard_lengths=[report["photos"] for report in reports],
                                num_bytes=sum(report["bytes"] for report in reports), filename_template=template)
    info.set_splits(tfds.core.splits.SplitDict([split]))
    info.write_to_directory(folder)


def _write_json(path, content):
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=1))
