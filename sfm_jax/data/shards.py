"""Photos of one's own in array_record files: how they are written, and what each holds.

What is written is an ordinary data set of TensorFlow Datasets, which `tfds.builder_from_directory` opens, and so
anything else that reads TFDS; data_sets.py reads it. No TensorFlow is needed.
"""

import concurrent.futures
import dataclasses
import io
import itertools
import json
import logging
import math
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from sfm_jax.atomic_files import atomic_write
from sfm_jax.data.crop import crop_edges, crop_image, transform_points, within_edges
from sfm_jax.data.data_sets import MANIFEST, DataSetPhotos
from sfm_jax.data.photo_sets import BadPhoto, PhotoSource, RawPhoto, check_labels, decode, digest, photo_box

log = logging.getLogger(__name__)

NAME = "photos"  # of data sets written here
FORMAT = 2  # of what is written; another one is not mixed with shards begun in this one


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
    folder, fingerprint = Path(folder), digest(FORMAT, source.fingerprint(), packing)
    if (folder / MANIFEST).exists():
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["fingerprint"] != fingerprint:
            raise ValueError(f"{folder / MANIFEST}: finished shards of other photos, or packed otherwise; expected "
                             "an empty folder")
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
    shown = within_edges(crop_edges(image, affine, raw.extent), size)
    return dataclasses.replace(raw, image=_encode(crop, format="JPEG", quality=packing.quality, subsampling=0),
                               landmarks=landmarks, box=box, extent=_extent(shown))


def _extent(shown):
    """Left, top, right and bottom of the rectangle [S, S] of pixels that is not 0."""
    columns, rows = (np.flatnonzero(shown.any(axis)) for axis in (0, 1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) if len(rows) else np.zeros(4)


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
        "crop": tensor(shape=(3,), dtype=np.float32),  # centre and side of the box; side 0: none
        "extent": tensor(shape=(None,), dtype=np.float32)})


def _example(raw, name):
    def known(value, filler):
        return filler if value is None else np.asarray(value, np.float32)

    mask = raw.landmark_mask if raw.landmark_mask is not None else np.full(68, raw.landmarks is not None)
    return {"image": raw.image, "name": name, "label": raw.person,
            "landmarks": np.nan_to_num(known(raw.landmarks, np.zeros((68, 2), np.float32))),
            "landmark_mask": mask.astype(np.float32), "rotation": known(raw.rotation, np.zeros((3, 3), np.float32)),
            "identity": known(raw.identity, np.zeros(0, np.float32)),
            "expression": known(raw.expression, np.zeros(0, np.float32)),
            "crop": np.zeros(3, np.float32) if raw.box is None else np.array([*raw.box[0], raw.box[1]], np.float32),
            "extent": known(raw.extent, np.zeros(0, np.float32))}


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
