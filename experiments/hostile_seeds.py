"""Small valid files of every format that is read here, for experiments/hostile_input.py to damage.

Each is written by our own writers, or by the libraries that write the format: a face of a hundred vertices, a photo of
a few pixels.
"""

import io
import json
import pickle
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.io
import scipy.spatial
from PIL import Image

from sfm_jax.data.labelled_folder import LabelledFolder
from sfm_jax.data.shards import Packing, build_shards
from sfm_jax.inference.export import write_obj, write_ply
from sfm_jax.morphable.formats.assemble import assemble
from sfm_jax.morphable.formats.eos import save_eos
from sfm_jax.morphable.model import MorphableModel, Topology

_SIDE, _LICENCE = 10, "CC0"


class Face(NamedTuple):
    """A bump that passes for a face: mm; identity [3, V, 3], expression [2, V, 3] and their unit columns."""

    mean: np.ndarray
    triangles: np.ndarray
    landmarks: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    columns: np.ndarray  # [3V, 3]


def face() -> Face:
    x, y = (part.ravel() for part in np.meshgrid(np.linspace(-90, 90, _SIDE), np.linspace(-110, 110, _SIDE)))
    mean = np.stack([x, y, 90 * np.exp(-(x**2 + y**2) / 60**2)], 1)
    triangles = scipy.spatial.Delaunay(mean[:, :2]).simplices
    rng = np.random.default_rng(0)
    points = rng.uniform(-80, 80, (68, 2))
    points[[36, 45, 30, 8]] = [(-45, 40), (45, 40), (0, 0), (0, -90)]
    landmarks = scipy.spatial.cKDTree(mean[:, :2]).query(points)[1]
    columns, _ = np.linalg.qr(rng.normal(size=(mean.size, 3)))
    identity = 20 * columns.T.reshape(3, -1, 3)
    return Face(mean, triangles, landmarks, identity, rng.normal(size=(2, len(mean), 3)), columns)


def model() -> MorphableModel:
    f = face()
    built = assemble("seed", mean=f.mean, triangles=f.triangles, identity=f.identity, expression=f.expression,
                     landmarks=f.landmarks, uv=f.mean[:, :2] / 300 + 0.5, licence=_LICENCE)
    topology = Topology(**{name: getattr(built.topology, name) for name in Topology.__dataclass_fields__
                           if name not in ("region_names", "regions")},
                        region_names=("skin",), regions=np.ones((1, len(f.mean)), np.float32))
    return built.replace(albedo_basis=jnp.zeros((2, len(f.mean), 3)), topology=topology)


def written(name: str, write) -> bytes:
    """What `write(path)` writes."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, name))
        return Path(folder, name).read_bytes()


def ours() -> bytes:
    return written("model.npz", model().save)


def eos() -> bytes:
    return written("model.bin", lambda path: save_eos(path, model()))


def glb() -> bytes:
    from sfm_jax.convert import write_glb_model

    return written("model.glb", lambda path: write_glb_model(path, model()))


def obj(**options) -> bytes:
    f = face()
    return written("mesh.obj", lambda path: write_obj(path, f.mean, f.triangles, **options))


def obj_with_uv() -> bytes:
    f = face()
    return obj(uv=f.mean[:, :2] / 300 + 0.5, uv_triangles=f.triangles)


def ply() -> bytes:
    f = face()
    return written("mesh.ply", lambda path: write_ply(path, f.mean, f.triangles))


def ply_text() -> bytes:
    import trimesh

    f = face()
    return trimesh.Trimesh(f.mean, f.triangles, process=False).export(file_type="ply", encoding="ascii")


def npz(compressed: bool = True, **arrays) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def foreign_npz() -> bytes:
    f = face()
    return npz(mean=f.mean, identity_basis=f.identity, identity_sigma=np.ones(3), expression=f.expression,
               faces=f.triangles, landmarks=f.landmarks, uv=f.mean[:, :2], uv_triangles=f.triangles,
               expression_names=np.array(["a", "b"]))


def mat(**variables) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=len(variables) % 2 == 0)
    return file.getvalue()


def bfm2009() -> bytes:
    f = face()
    return mat(shapeMU=1000 * f.mean.reshape(-1, 1), shapePC=f.columns, shapeEV=np.full((3, 1), 20e3),
               tl=f.triangles + 1, texMU=np.full((f.mean.size, 1), 128.0), texPC=f.columns, texEV=np.ones((3, 1)))


def deep3d() -> bytes:
    f = face()
    flat = f.mean.reshape(1, -1) / 100
    return mat(meanshape=flat, idBase=f.columns, exBase=f.columns, meantex=np.full_like(flat, 100.0),
               texBase=f.columns, tri=f.triangles + 1, keypoints=f.landmarks[None] + 1, more=1)


def lyhm() -> bytes:
    f = face()
    part = {"mu": f.mean.reshape(1, -1), "eigVec": f.columns, "eigVal": np.ones((3, 1))}
    return mat(shp=part, tex=part, tri=f.triangles + 1)


def aflw() -> bytes:
    return mat(pt3d_68=np.random.default_rng(0).uniform(5, 25, (3, 68)), Pose_Para=np.zeros((1, 7)),
               Shape_Para=np.zeros((199, 1)), Exp_Para=np.zeros((29, 1)))


def aflw2000() -> bytes:
    """As published, uncompressed."""
    rng = np.random.default_rng(0)
    return mat(pt3d_68=rng.uniform(5, 25, (3, 68)), Pose_Para=np.zeros((1, 7)), roi=np.array([[1, 1, 450, 450]]))


def statismo() -> bytes:
    import h5py

    f = face()

    def write(path):
        with h5py.File(path, "w") as file:
            for part in ("shape", "color", "expression"):
                file[f"{part}/model/mean"] = 0.5 * np.ones(f.mean.size) if part == "color" else (
                    f.mean.ravel() if part == "shape" else np.zeros(f.mean.size))
                file[f"{part}/model/pcaBasis"], file[f"{part}/model/pcaVariance"] = f.columns, np.ones(3)
            file["shape/representer/cells"], file["shape/representer/points"] = f.triangles.T, f.mean.T
            file["version/minorVersion"] = 9
            file["metadata/landmarks/json"] = json.dumps([{"id": "nose", "coordinates": [0, 0, 90]}])
    return written("model.h5", write)


def flame(protocol: int) -> bytes:
    f = face()
    return pickle.dumps(
        {"v_template": f.mean / 1000, "shapedirs": np.moveaxis(f.identity, 0, -1) / 1000,
         "f": f.triangles.astype(np.uint32), "kintree_table": [1, (2.0, "text"), {"a": None}]}, protocol)


def flame_npz() -> bytes:
    f = face()
    return npz(v_template=f.mean / 1000, shapedirs=np.moveaxis(f.identity, 0, -1) / 1000, f=f.triangles)


def embedding() -> bytes:
    faces, weights = np.arange(68)[None], np.full((1, 68, 3), 1 / 3)
    return npz(full_lmk_faces_idx=faces, full_lmk_bary_coords=weights, dynamic_lmk_faces_idx=faces[:, :17],
               dynamic_lmk_bary_coords=weights[:, :17])


def bilinear() -> bytes:
    f = face()
    people = f.mean + 0.3 * f.identity
    return npz(shape_bm_core=np.stack([people, people + 1], 1).reshape(3, 2, -1).T, fv_indices=f.triangles + 1,
               lm_list_v16=f.landmarks)


def image(form: str, mode: str = "RGB", **options) -> bytes:
    file, rows = io.BytesIO(), np.arange(32 * 24 * 3, dtype=np.uint8).reshape(32, 24, 3)
    Image.fromarray(rows).convert(mode).save(file, form, **options)
    return file.getvalue()


def images() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "photo.png": image("PNG"), "grey.png": image("PNG", "L"), "palette.png": image("PNG", "P", transparency=0),
        "alpha.png": image("PNG", "RGBA"), "photo.jpg": image("JPEG", exif=exif), "cmyk.jpg": image("JPEG", "CMYK"),
        "photo.bmp": image("BMP"), "photo.webp": image("WEBP"), "photo.gif": image("GIF"), "photo.ppm": image("PPM"),
        "photo.tif": image("TIFF", compression="tiff_deflate"), "photo.eps": image("EPS")}


def shards() -> dict[str, bytes]:
    """The files of a folder of shards of three photos."""
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch, "photos")
        for number in range(3):
            (photos / f"person{number % 2}").mkdir(parents=True, exist_ok=True)
            (photos / f"person{number % 2}" / f"{number}.png").write_bytes(image("PNG"))
        np.savez(photos / "person0" / "0.npz", landmarks=np.random.default_rng(0).uniform(2, 22, (68, 2)))
        build_shards(LabelledFolder(photos), Path(scratch, "shards"), Packing(size=16, photos_per_shard=2))
        return {path.name: path.read_bytes() for path in sorted(Path(scratch, "shards").iterdir()) if path.is_file()}


def landmark_files() -> dict[str, bytes]:
    points, vertices = np.random.default_rng(0).uniform(2, 22, (68, 2)), face().landmarks.tolist()
    rows = "\n".join(f"{x:.3f} {y:.3f}" for x, y in points)
    contours = {"model_contour": {"right_contour": [1, 2, 3], "left_contour": [4, 5]}}
    return {"photo.npz": npz(landmarks=points, landmark_mask=np.ones(68)), "photo.txt": rows.encode(),
            "photo.pts": f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n".encode(),
            "vertices.json": json.dumps(vertices).encode(), "vertices.npy": npy(np.array(vertices)),
            "vertices.txt": " ".join(map(str, vertices)).encode(),
            "vertices.toml": ("[landmark_mappings]\n" + "\n".join(
                f"{i + 1} = {vertex}" for i, vertex in enumerate(vertices))).encode(),
            "contours.json": json.dumps(contours).encode()}
