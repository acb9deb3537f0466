"""FLAME 2017, 2020 and 2023: the linear part of a .pkl (or .npz). It needs its publisher's licence.

v_template [5023, 3], shapedirs [5023, 3, 400] (300 of identity and 100 of expression, at one standard deviation) and
f [9976, 3]; metres. Jaw, neck and eyes turn in joints, which a linear model has not: they stay as in the template.
Li et al., "Learning a Model of Facial Shape and Expression from 4D Scans", SIGGRAPH Asia 2017.
"""

import io
import os
from pathlib import Path

import numpy as np

from sfm_jax.array_files import integers, numbers, one_line, read_npz
from sfm_jax.morphable.formats.assemble import UNITS, assemble
from sfm_jax.morphable.formats.files import need, read_bytes
from sfm_jax.morphable.formats.landmarks import all_landmarks
from sfm_jax.morphable.formats.obj import read_obj
from sfm_jax.morphable.formats.safe_pickle import load_pickle
from sfm_jax.morphable.model import MorphableModel

IDENTITIES = 300


def load_flame(
    path: str | os.PathLike,
    landmarks: str | os.PathLike | None = None,
    uv: str | os.PathLike | None = None,
    identities: int = IDENTITIES,
) -> MorphableModel:
    """FLAME's shape and expression.

    Args:
      path: generic_model.pkl, female_model.pkl, flame2023.pkl and the like; unpickled into arrays and nothing else.
      landmarks: an embedding of landmarks in triangles (.npy, .npz, .pkl): full_lmk_faces_idx and
        full_lmk_bary_coords, or static_.. and dynamic_.. of the jaw, or lmk_face_idx and lmk_b_coords of all 68; each
        landmark becomes the nearest corner of its triangle. Or a file of 68 vertices (see `read_landmarks`).
      uv: head_template.obj, or an npz with vt and ft.
      identities: how many of the directions are identity; the others are expression.

    Raises:
      ValueError: naming the file and the key that is missing or wrong, or the global that a pickle must not have.
    """
    arrays = _read(path)
    mean, directions, triangles = need(path, arrays, "v_template", "shapedirs", "f")
    mean = numbers(path, "v_template", mean).astype(np.float64)
    directions = numbers(path, "shapedirs", directions).astype(np.float64)
    if directions.ndim != 3 or directions.shape[:2] != mean.shape:
        raise ValueError(f"{path}: shapedirs: shape {directions.shape}, expected [vertices, 3, components] for a mean "
                         f"of shape {mean.shape}")
    directions = np.moveaxis(directions, -1, 0)
    triangles = integers(path, "f", triangles)
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"{path}: f: shape {triangles.shape}, expected [triangles, 3]")
    points, lines = (None, None) if landmarks is None else _landmarks(landmarks, triangles)
    places, place_triangles = (None, None) if uv is None else _uv(uv)
    return assemble(
        path, mean=mean, triangles=triangles, identity=directions[:identities], expression=directions[identities:],
        expression_kind="statistical",
        uv=places, uv_triangles=place_triangles, landmarks=points, contour_lines=lines, millimetres=UNITS["m"],
        name=f"FLAME, {Path(path).stem}", source="Li et al. 2017, without joints")


def _read(path):
    """A dict of arrays from .pkl, .npz, or .npy with a pickled dict."""
    suffix = Path(path).suffix.lower()
    if suffix == ".npz":
        return read_npz(path)
    content = read_bytes(path)
    if suffix == ".npy":
        stream = io.BytesIO(content)
        try:
            old = np.lib.format.read_magic(stream) == (1, 0)
            read_header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
            shape, _, dtype = read_header(stream)
        except Exception as error:  # NumPy parses the header as Python: it raises whatever that leads to
            raise ValueError(f"{path}: not a readable npy ({one_line(error)})") from None
        if dtype != np.dtype(object):
            raise ValueError(f"{path}: an array of {dtype} {shape}, expected a dict of arrays")
        loaded = load_pickle(path, content[stream.tell():])
    else:
        loaded = load_pickle(path, content)
    if not isinstance(loaded, dict):
        raise ValueError(f"{path}: holds a {type(loaded).__name__}, expected a dict of arrays")
    return loaded


def _landmarks(path, triangles):
    """68 vertices, and the lines [17, L] of the jaw where the embedding has them."""
    if Path(path).suffix.lower() not in (".npy", ".npz", ".pkl"):
        return all_landmarks(path), None
    arrays = _read(path)
    lines = jaw = None
    if "dynamic_lmk_faces_idx" in arrays:
        lines = _nearest(path, "dynamic_lmk", arrays, triangles)  # [yaws, 17], the first from the front
        if lines.ndim != 2 or lines.shape[1] != 17:
            raise ValueError(f"{path}: dynamic_lmk_faces_idx: shape {lines.shape}, expected [angles, 17]")
        jaw = lines[0]
        lines = np.stack([_padded(np.unique(line), max(len(np.unique(row)) for row in lines.T)) for line in lines.T])
    if "full_lmk_faces_idx" in arrays:
        points = _nearest(path, "full_lmk", arrays, triangles).ravel()
    elif "static_lmk_faces_idx" in arrays and jaw is not None:
        points = np.concatenate([jaw, _nearest(path, "static_lmk", arrays, triangles).ravel()])
    else:
        faces, weights = need(path, arrays, "lmk_face_idx", "lmk_b_coords")
        points = _nearest(path, "lmk", {"lmk_faces_idx": faces, "lmk_bary_coords": weights}, triangles).ravel()
    if points.shape != (68,):
        raise ValueError(f"{path}: {len(points)} landmarks, expected 68 (51 need the dynamic ones of the jaw)")
    return points, lines


def _nearest(path, prefix, arrays, triangles):
    """The corner of each triangle with the largest weight."""
    faces, weights = need(path, arrays, f"{prefix}_faces_idx", f"{prefix}_bary_coords")
    faces, weights = integers(path, f"{prefix}_faces_idx", faces), numbers(path, f"{prefix}_bary_coords", weights)
    if weights.shape != (*faces.shape, 3) or not faces.size or faces.min() < 0 or faces.max() >= len(triangles):
        raise ValueError(f"{path}: {prefix}_faces_idx: {faces.shape} triangles with weights {weights.shape}, expected "
                         f"indices below {len(triangles)} and 3 weights each")
    return np.take_along_axis(triangles[faces], weights.argmax(-1)[..., None], -1)[..., 0]


def _padded(line, length):
    return np.append(line, np.full(length - len(line), line[-1]))


def _uv(path):
    if Path(path).suffix.lower() == ".obj":
        mesh = read_obj(path)
        if mesh.uv is None:
            raise ValueError(f"{path}: has no texture coordinates")
        return mesh.uv, mesh.uv_triangles
    return need(path, read_npz(path, ("vt", "ft")), "vt", "ft")
