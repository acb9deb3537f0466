"""Every reader of files, as experiments/hostile_input.py calls it: valid files, the function, and what damages them.

The package is imported in the functions: Atheris sees only what is imported after it has begun.
"""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from experiments import hostile_mutations as m

NO_FILE = "main.py"  # config strings have none


class Reader(NamedTuple):
    """files: valid ones by name, all of which lie in a folder; read(path) reads the one called so; mutations of them;
    fixed: those that are not changed."""

    files: dict[str, bytes]
    read: Callable[[Path], object]
    mutations: tuple[Callable, ...]
    fixed: tuple[str, ...] = ()


def readers() -> dict[str, Callable[[], Reader]]:
    """What makes each reader; only the one that runs is made."""
    from experiments import hostile_seeds as s
    from sfm_jax.morphable.formats import load_face_model

    npz, text, tree = (m.npz, m.npz, m.blind), (m.words, m.words, m.blind), (m.json_text, m.json_text, m.words)

    def with_points(path):
        load_face_model(path, landmarks=path.with_name("vertices.txt"))

    points = {"vertices.txt": s.landmark_files()["vertices.txt"]}
    return {
        "npz, ours": lambda: Reader({"model.npz": s.ours()}, read_ours, npz),
        "npz, others'": lambda: Reader({"a.npz": s.foreign_npz(), "b.npz": s.flame_npz(), "c.npz": s.bilinear()},
                                       load_face_model, npz),
        "npy": lambda: Reader({"a.npy": s.npy(s.face().mean)}, load_face_model, (m.npy_head, m.head, m.blind)),
        "mat": lambda: Reader({"a.mat": s.bfm2009(), "b.mat": s.deep3d(), "c.mat": s.lyhm()}, load_face_model,
                              (m.matlab, m.head, m.blind)),
        "mat, photos": lambda: Reader({"a.mat": s.aflw(), "a.jpg": s.image("JPEG")}, read_aflw,
                                      (m.matlab, m.head, m.blind), ("a.jpg",)),
        "mat, AFLW2000": lambda: Reader({"a.mat": s.aflw(), "b.mat": s.aflw2000()}, read_labels,
                                        (m.matlab, m.head, m.blind)),
        "h5": lambda: Reader({"a.h5": s.statismo()} | points, with_points, (m.hdf5, m.hdf5, m.head, m.blind),
                             ("vertices.txt",)),
        "pkl": lambda: Reader({"a.pkl": s.flame(2), "b.pkl": s.flame(0), "c.pkl": s.flame(5)}, load_face_model,
                              (m.pickled, m.arrays_pickled, m.blind)),
        "landmarks of a face model": lambda: Reader(
            {"e.npz": s.embedding()} | s.landmark_files() | {"flame.pkl": s.flame(2), "eos.bin": s.eos()},
            read_model_landmarks, (m.json_text, m.words, m.npz, m.npy_head, m.blind), ("flame.pkl", "eos.bin")),
        "bin (eos)": lambda: Reader({"a.bin": s.eos()}, load_face_model, (m.head, m.blind)),
        "obj": lambda: Reader({"a.obj": s.obj(), "b.obj": s.obj_with_uv()}, read_any_mesh, text),
        "ply": lambda: Reader({"a.ply": s.ply(), "b.ply": s.ply_text()}, read_any_mesh, (m.words, m.head, m.blind)),
        "glb": lambda: Reader({"a.glb": s.glb()}, load_face_model, (m.glb, m.glb, m.head)),
        "scan npz": lambda: Reader({"a.npz": s.npz(vertices=s.face().mean, triangles=s.face().triangles)}, read_scan_,
                                   npz),
        "photos": lambda: Reader(s.images(), read_photo_, (m.picture, m.head, m.blind)),
        "landmarks of photos": lambda: Reader(
            {name: data for name, data in s.landmark_files().items() if "photo." in name}, read_photo_landmarks,
            (m.words, m.npz, m.blind)),
        "csv, tsv": lambda: Reader({"a.csv": b"path,person\na.jpg,Ann\nb.jpg,\n", "a.tsv": b"a.jpg\tAnn\n"},
                                   read_table_, text),
        "shards": lambda: Reader(s.shards(), read_shards, (*tree, m.head, m.blind)),
        "packed networks": lambda: Reader(
            {"a.npz": s.npz(**{"format": "f", "params/a/kernel": s.face().mean, "config": "{}"})}, read_packed_, npz),
        "metrics, config of a run": lambda: Reader(
            {"config.json": b'{"a": {"b": 1}, "c": "x"}', "metrics.jsonl": b'{"step": 1, "loss": 2}\n{"step": 2}\n',
             "sources.json": b'{"basis": "12ab", "Ann": "held out"}',
             "seconds.json": b'{"seconds": 9, "train_seconds": 8, "compile_seconds": 1, "timed_steps": 2, '
                             b'"timed_seconds": 7.5}'},
            read_run, tree),
        "photos without a face": lambda: Reader({"no_face.json": b'["Ann", "Bob \\udcff"]\n'}, read_no_face_, tree),
        "config strings": lambda: Reader(
            {NO_FILE: b"--config=configs/stage2.py\n--config.steps=3\n--config.optimiser.name=adam\n--workdir=runs/a"},
            read_flags, text),
    }


def read_ours(path):
    from sfm_jax.morphable.formats import load_face_model
    from sfm_jax.morphable.model import MorphableModel
    from sfm_jax.morphable.sphere_model import is_sphere_model

    load_face_model(path)
    MorphableModel.load(path)
    is_sphere_model(path)


def read_aflw(path):
    from sfm_jax.data.aflw import AflwPhotos
    from sfm_jax.data.photo_sets import check_labels

    raw = AflwPhotos(path.parent).raw(0)
    check_labels(raw, (32, 24, 3))


def read_labels(path):
    from sfm_jax.evaluation.protocols.aflw2000 import _read_mat

    _read_mat(path)


def read_no_face_(path):
    from sfm_jax.evaluation.protocols.matching import photos_without_face

    photos_without_face(path.parent)


def read_model_landmarks(path):
    from sfm_jax.morphable.formats.eos import load_eos
    from sfm_jax.morphable.formats.flame import load_flame
    from sfm_jax.morphable.formats.landmarks import all_landmarks

    if path.name == "contours.json":
        load_eos(path.with_name("eos.bin"), contours=path)
    elif path.suffix in (".npz", ".npy"):
        load_flame(path.with_name("flame.pkl"), landmarks=path)
    else:
        all_landmarks(path)


def read_any_mesh(path):
    from sfm_jax.data.scans import read_scan
    from sfm_jax.morphable.formats.obj import read_mesh, read_obj_vertices

    read_mesh(path)
    if path.suffix == ".obj":
        read_obj_vertices(path)
    read_scan(path, seed_model())


@functools.cache
def seed_model():
    from experiments import hostile_seeds

    return hostile_seeds.model()


def read_scan_(path):
    from sfm_jax.data.scans import read_scan

    read_scan(path, seed_model())


def read_photo_(path):
    from sfm_jax.data.frames import _size
    from sfm_jax.reconstruct import read_photo

    _size(path)
    read_photo(path)


def read_photo_landmarks(path):
    from sfm_jax.data.labelled_folder import read_landmarks
    from sfm_jax.data.photo_sets import RawPhoto, check_labels

    for other in path.parent.glob("photo.*"):
        if other != path:
            other.unlink()
    landmarks, mask = read_landmarks(path.with_suffix(".jpg"))
    check_labels(RawPhoto(b"", str(path), landmarks=landmarks, landmark_mask=mask), (32, 24, 3))


def read_table_(path):
    from sfm_jax.data.labelled_folder import LabelledFolder

    LabelledFolder(path)


def read_shards(path):
    from sfm_jax.data.data_sets import open_shards
    from sfm_jax.data.photo_sets import BadPhoto, check_labels, decode

    source = open_shards(str(path.parent))
    for index in range(min(len(source), 20)):
        with contextlib.suppress(BadPhoto):  # names its photo, not the file
            raw = source.raw(index)
            check_labels(raw, decode(raw.image, raw.name).shape)


def read_packed_(path):
    from sfm_jax.inference.packed import read_packed, unpacked_tree

    unpacked_tree(read_packed(path, "f", ("params", "config")), "params")


def read_run(path):
    from ml_collections import ConfigDict

    from sfm_jax.training.clock import Clock
    from sfm_jax.training.logbook import read_metrics
    from sfm_jax.training.workdir import changed_sources, open_workdir

    if path.name == "config.json":
        open_workdir(path.parent, ConfigDict({"a": {"b": 1}, "c": "x"}))
    elif path.name == "sources.json":
        changed_sources(path.parent, {"basis": "34cd"})
    elif path.name == "seconds.json":
        Clock(path.parent, 1, 0.0).times(2)
    else:
        [line["step"] for line in read_metrics(path)]


def read_flags(path):
    from absl import flags

    from sfm_jax.main import read_command_line

    flags.FLAGS.unparse_flags()
    read_command_line([NO_FILE, *path.read_text(errors="replace").split("\n")])
