"""A folder of registered meshes, one for each person, of one topology: a PCA model of them."""

import os
from pathlib import Path

import numpy as np

from sfm_jax.array_files import lengths
from sfm_jax.morphable.formats.assemble import assemble, unit_factor
from sfm_jax.morphable.formats.landmarks import all_landmarks
from sfm_jax.morphable.formats.obj import read_mesh
from sfm_jax.morphable.formats.principal import aligned
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.morphable.statistics import weighted_pca

SUFFIXES = (".obj", ".ply")
ROUNDING = 1e-3  # mm: smaller components are what aligning leaves in float32


def load_meshes(
    folder: str | os.PathLike,
    unit: str = "mm",
    components: int | None = None,
    landmarks: str | os.PathLike | None = None,
) -> MorphableModel:
    """The principal components of the meshes in a folder, turned and moved onto their mean first (sizes are kept).

    Args:
      folder: with NAME.obj or NAME.ply, or PERSON/neutral.obj or .ply, of faces without expression; of a person who
        is there as both the OBJ counts.
      unit: of their lengths: m, dm, cm, mm or um.
      components: how many; None keeps all that differ from rounding.
      landmarks: a file of 68 vertices (see `read_landmarks`), or None.

    Raises:
      ValueError: no meshes, fewer than two, or one whose topology is not the first one's, by name.
    """
    files = find_meshes(folder)
    first = read_mesh(files[0])
    shapes = [first.vertices]
    for file in files[1:]:
        mesh = read_mesh(file)
        if mesh.vertices.shape != first.vertices.shape:
            raise ValueError(f"{file}: {len(mesh.vertices)} vertices, {files[0].name} has {len(first.vertices)}")
        if not np.array_equal(mesh.triangles, first.triangles):
            raise ValueError(f"{file}: other triangles than {files[0].name}, so vertices do not correspond")
        shapes.append(mesh.vertices)
    shapes = unit_factor(unit) * np.stack([lengths(file, "vertices", shape)
                                           for file, shape in zip(files, shapes, strict=True)])
    shapes = aligned(shapes)
    most = min(len(shapes) - 1, shapes[0].size)
    mean, basis, sigma = weighted_pca(shapes, None, min(components or most, most))
    basis = basis[sigma > ROUNDING]
    if not len(basis):
        raise ValueError(f"{folder}: its {len(files)} meshes are all the same")
    return assemble(folder, mean=mean, triangles=first.triangles, identity=basis, uv=first.uv,
                    uv_triangles=first.uv_triangles, landmarks=all_landmarks(landmarks),
                    name=Path(folder).resolve().name, source=f"principal components of {len(files)} registered meshes")


def find_meshes(folder: str | os.PathLike) -> list[Path]:
    """The mesh of each person in a folder, sorted. ValueError if there are fewer than two."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder, expected registered meshes")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    files = files or sorted(path for path in folder.glob("*/neutral.*") if path.suffix.lower() in SUFFIXES)
    people: dict[Path, Path] = {}
    for path in sorted(files, key=lambda path: path.suffix.lower()):  # .obj before .ply
        people.setdefault(path.with_suffix(""), path)
    files = [people[name] for name in sorted(people)]
    if len(files) < 2:
        raise ValueError(f"{folder}: found {len(files)} meshes, expected at least two .obj or .ply, one a person")
    return files
