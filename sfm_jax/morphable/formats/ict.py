"""ICT FaceKit's light model (MIT): the folder FaceXModel of a clone of its repository.

    generic_neutral_mesh.obj    the mean, centimetres, quads
    identity000.obj ..          the mean moved by one standard deviation of each identity mode
    EXPRESSION.obj              the mean with one expression, of the names in
    vertex_indices.json         "expressions", and the 68 landmarks as "idx_to_landmark_verts"

github.com/ICT-VGL/ICT-FaceKit; Li et al., "Learning Formation of Physically-Based Face Attributes", CVPR 2020.
"""

import json
import os
from pathlib import Path

import numpy as np

from sfm_jax.array_files import lengths, one_line
from sfm_jax.morphable.formats.assemble import assemble
from sfm_jax.morphable.formats.files import need, read_bytes
from sfm_jax.morphable.formats.obj import read_obj, read_obj_vertices
from sfm_jax.morphable.formats.principal import orthogonal, without_motion
from sfm_jax.morphable.model import MorphableModel

NEUTRAL, INDICES = "generic_neutral_mesh.obj", "vertex_indices.json"
FACE = 9409  # vertices of the face, which come first; behind them head, mouth, teeth, eyes, lashes
CENTIMETRE = 10.0


def load_ict(folder: str | os.PathLike, vertices: int = FACE, keep_size: bool = False) -> MorphableModel:
    """The model of a FaceXModel folder, its first `vertices` vertices.

    Its identity modes are not orthogonal and move, turn and above all scale the face (the first mode is 85 % size).
    These motions are taken out, to first order, and the principal components of the same Gaussian computed anew.

    Args:
      folder: FaceXModel, or the clone that it lies in.
      vertices: 9409 is the face, 26719 is all; triangles with others are left out.
      keep_size: keep the modes' change of size (a standard deviation of 4.6 %).

    Raises:
      ValueError: naming the file that is missing or does not fit.
    """
    folder = find_ict(folder)
    neutral = read_obj(folder / NEUTRAL)
    try:
        indices = json.loads(read_bytes(folder / INDICES))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{folder / INDICES}: not readable as JSON ({one_line(error)})") from None
    names, landmarks = need(folder / INDICES, indices, "expressions", "idx_to_landmark_verts")
    if not isinstance(names, list) or not all(isinstance(name, str) and "/" not in name for name in names):
        raise ValueError(f"{folder / INDICES}: expressions: expected a list of names")
    identities = sorted(folder.glob("identity[0-9][0-9][0-9].obj"))
    if not identities:
        raise ValueError(f"{folder}: identity000.obj is missing, expected the identity modes")
    count = min(vertices, len(neutral.vertices))
    mean = lengths(folder / NEUTRAL, "vertices", neutral.vertices[:count])

    def offsets(files):
        return np.stack([lengths(file, "vertices", _vertices(file, len(neutral.vertices))[:count]) - mean
                         for file in files])

    inside = (neutral.triangles < count).all(1)
    uv, uv_triangles = neutral.uv, None
    if uv is not None:
        used, uv_triangles = np.unique(neutral.uv_triangles[inside], return_inverse=True)
        uv, uv_triangles = uv[used], uv_triangles.reshape(-1, 3)
    expression = offsets([folder / f"{name}.obj" for name in names]) if names else np.zeros((0, count, 3))
    return assemble(
        folder, mean=mean, triangles=neutral.triangles[inside], uv=uv, uv_triangles=uv_triangles,
        identity=orthogonal(without_motion(offsets(identities), mean, keep_size)), expression=expression,
        expression_names=[str(name) for name in names], landmarks=landmarks, millimetres=CENTIMETRE,
        name="ICT FaceKit", licence="MIT", source="github.com/ICT-VGL/ICT-FaceKit, modes aligned and made orthogonal")


def find_ict(folder: str | os.PathLike) -> Path:
    """The folder with FaceKit's meshes: this one, or FaceXModel in it. ValueError if there is none."""
    for path in (Path(folder), Path(folder) / "FaceXModel"):
        if (path / NEUTRAL).is_file():
            return path
    raise ValueError(f"{folder}: {NEUTRAL} is missing, expected ICT FaceKit's folder FaceXModel")


def _vertices(file, count):
    vertices = read_obj_vertices(file)
    if len(vertices) != count:
        raise ValueError(f"{file}: {len(vertices)} vertices, {NEUTRAL} has {count}")
    return vertices
