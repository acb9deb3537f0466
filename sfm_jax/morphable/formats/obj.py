"""Wavefront OBJ and PLY meshes as arrays, vertices in the file's order: correspondence is all that counts here."""

import os
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from sfm_jax.array_files import one_line
from sfm_jax.morphable.formats.files import read_bytes


class Mesh(NamedTuple):
    """vertices [V, 3] in the file's unit, triangles [F, 3]; uv [U, 2] and uv_triangles [F, 3], or None."""

    vertices: Float[np.ndarray, "V 3"]
    triangles: Integer[np.ndarray, "F 3"]
    uv: Float[np.ndarray, "U 2"] | None
    uv_triangles: Integer[np.ndarray, "F 3"] | None


def read_mesh(path: str | os.PathLike) -> Mesh:
    """An OBJ or PLY. ValueError names the file and what is wrong."""
    return _read_ply(path) if str(path).lower().endswith(".ply") else read_obj(path)


def read_topology(path: str | os.PathLike, count: int) -> Mesh:
    """The mesh whose triangles a model of `count` vertices has. ValueError also where it has other vertices."""
    mesh = read_mesh(path)
    if len(mesh.vertices) != count:
        raise ValueError(f"{path}: found {len(mesh.vertices)} vertices, expected the model's {count}")
    return mesh


def read_obj(path: str | os.PathLike) -> Mesh:
    """An OBJ; polygons become fans of triangles. ValueError names the file and the line that is wrong."""
    positions, places, corners = [], [], []
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        try:
            if not words:
                continue
            if words[0] == "v":
                positions.append([float(word) for word in words[1:4]])
                assert len(positions[-1]) == 3
            elif words[0] == "vt":
                places.append([float(word) for word in words[1:3]])
                assert len(places[-1]) == 2
            elif words[0] == "f":
                polygon = [_corner(word, len(positions), len(places)) for word in words[1:]]
                assert len(polygon) > 2
                corners += [(polygon[0], polygon[i], polygon[i + 1]) for i in range(1, len(polygon) - 1)]
        except (ValueError, AssertionError, OverflowError):
            raise ValueError(f"{path}: line {number}: {line[:60]!r} is not sound OBJ") from None
    if not positions or not corners:
        raise ValueError(f"{path}: found {len(positions)} vertices and {len(corners)} triangles, expected a mesh")
    corners = np.array(corners, np.int64)  # [F, 3, 2]
    with_uv = bool(places) and corners[..., 1].min() >= 0
    return Mesh(np.array(positions), corners[..., 0], np.array(places) if with_uv else None,
                corners[..., 1] if with_uv else None)


def read_obj_vertices(path: str | os.PathLike) -> Float[np.ndarray, "V 3"]:
    """The vertices [V, 3] alone: several times faster for the many files of one topology."""
    rows = [line.split()[1:4] for line in _lines(path) if line.startswith("v ")]
    try:
        if any(len(row) != 3 for row in rows):
            raise ValueError
        return np.array(rows, np.float64).reshape(-1, 3)
    except ValueError:
        raise ValueError(f"{path}: not every vertex has three numbers") from None


def _lines(path):
    return read_bytes(path).decode("utf-8", "replace").split("\n")


def _corner(word, vertices, places):
    """0-based indices of a vertex and a UV (-1: none); negative ones in the file count from the end."""
    parts = word.split("/")
    vertex, place = int(parts[0]), int(parts[1]) if len(parts) > 1 and parts[1] else 0
    vertex = vertex - 1 if vertex > 0 else vertices + vertex
    place = place - 1 if place >= 0 else places + place
    if not 0 <= vertex < vertices or not -1 <= place < max(places, 1):
        raise ValueError
    return vertex, place


def _read_ply(path):
    vertices, triangles = load_trimesh(path)
    if not triangles.size:
        raise ValueError(f"{path}: found {len(vertices)} vertices and no triangles, expected a mesh")
    return Mesh(vertices, triangles, None, None)


def load_trimesh(path: str | os.PathLike) -> tuple[Float[np.ndarray, "V 3"], Integer[np.ndarray, "F 3"]]:
    """Vertices [V, 3] and triangles [F, 3] of any mesh that trimesh reads. ValueError names the file."""
    import trimesh

    read_bytes(path)
    try:
        mesh = trimesh.load(path, process=False, maintain_order=True, force="mesh")
        vertices, triangles = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
        if vertices.ndim != 2 or vertices.shape[1] != 3 or (triangles.size and triangles.shape[1:] != (3,)):
            raise ValueError(f"vertices of shape {vertices.shape}, triangles of shape {triangles.shape}")
        if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(vertices):
            raise ValueError(f"indices {triangles.min()}..{triangles.max()}, expected 0..{len(vertices) - 1}")
    except Exception as error:  # trimesh's readers raise whatever the damaged file led them to
        raise ValueError(f"{path}: not a readable mesh ({type(error).__name__}: {one_line(error)})") from None
    return vertices, triangles
