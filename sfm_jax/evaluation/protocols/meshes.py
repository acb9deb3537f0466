"""Predicted meshes and scans in files, with their landmarks, checked before anything is measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from scipy.spatial import cKDTree

from sfm_jax.array_files import numbers, triangle_indices
from sfm_jax.data.folders import files_below
from sfm_jax.evaluation.protocols.landmark_files import read_array, read_key
from sfm_jax.evaluation.protocols.reconstructions import expression_in, read_face
from sfm_jax.evaluation.scan_to_mesh import NOW_LANDMARKS
from sfm_jax.geometry.icp import similarity_between
from sfm_jax.morphable.default import load_default

MESH_SUFFIXES = (".obj", ".ply")
POINT_SUFFIXES = (".npy", ".txt", ".npz", ".pp")
PARAMETERS = "params.npz"
FACE_SIZE = (80.0, 2000.0)  # mm: the diagonal of anything from a face without ears to a bust
_FACTORS = {1000.0: "metres", 10.0: "centimetres", 0.001: "micrometres", 25.4: "inches", 100.0: "decimetres"}
_TYPICAL = (120.0, 900.0)  # mm
_MIRRORED = [3, 2, 1, 0, 4, 6, 5]  # NOW_LANDMARKS, left for right
_MISFIT = 0.2  # of the distance of the outer corners of the eyes: that of people from their mean is below 0.1
_OFF_THE_MESH = 0.2  # of the mesh's size: farther from it no landmark is


class Mesh(NamedTuple):
    """vertices [V, 3], triangles [F, 3], and where they were read."""

    vertices: np.ndarray
    triangles: np.ndarray
    path: Path


def read_mesh(path: Path, unit: float = 1.0, scale_free: bool = False) -> Mesh:
    """A triangle mesh, or a scan. unit: millimetres of one unit of the file; scale_free: any size will do.

    Raises:
      ValueError: a file that cannot be read, no triangles, NaN, or a size that no face in millimetres has: then with
        the factor that would make it one.
    """
    import trimesh

    try:
        loaded = trimesh.load(path, process=False, maintain_order=True)
    except Exception as error:  # trimesh's readers raise whatever the damaged text led them to
        raise ValueError(f"{path}: not a readable mesh ({type(error).__name__}: {error})") from None
    if isinstance(loaded, trimesh.Scene):
        parts = list(loaded.geometry.values())
        if len(parts) != 1:
            raise ValueError(f"{path}: found {len(parts)} parts, expected one mesh")
        loaded = parts[0]
    triangles = np.asarray(getattr(loaded, "faces", np.empty((0, 3))))
    if not len(triangles):
        raise ValueError(f"{path}: a mesh without triangles ({len(loaded.vertices)} points), expected some: distances "
                         "are to a surface")
    triangles = triangle_indices(path, "triangles", triangles, len(loaded.vertices))
    vertices = unit * np.asarray(loaded.vertices, np.float64)
    if not np.isfinite(vertices).all():
        row = int(np.argmin(np.isfinite(vertices).all(1)))
        raise ValueError(f"{path}: vertex {row} is {vertices[row].tolist()}, expected finite numbers")
    if not scale_free:
        check_millimetres(vertices, path)
    return Mesh(vertices, triangles, path)


def check_millimetres(vertices: np.ndarray, path: Path) -> None:
    """ValueError where vertices [V, 3] span less or more than a face in millimetres does, with a factor that helps."""
    size = float(np.linalg.norm(np.ptp(vertices, axis=0)))
    if FACE_SIZE[0] <= size <= FACE_SIZE[1]:
        return
    helpful = [f": multiply by {factor:g} if these are {unit} (of predictions: --unit)"
               for factor, unit in _FACTORS.items() if _TYPICAL[0] <= factor * size <= _TYPICAL[1]]
    raise ValueError(f"{path}: found a face of {size:.4g} mm from corner to corner, expected {FACE_SIZE[0]:g} to "
                     f"{FACE_SIZE[1]:g}{helpful[0] if helpful else ''}")


def read_landmarks(mesh: Mesh, which: Sequence[int] = NOW_LANDMARKS, unit: float = 1.0) -> np.ndarray:
    """Landmarks [len(which), 3] beside a mesh, NAME.npy, .txt, .npz ("landmarks") or .pp: these, or all 68 of iBUG, of
    which `which` are taken. Where there is no such file and the mesh is the embedded model's, that model's.

    Raises:
      ValueError: none, another number, NaN, or one that is nowhere near the mesh.
    """
    points, path = points_beside(mesh, f"{len(which)} points, iBUG's {', '.join(map(str, which))}, or all 68", unit)
    if len(points) == 68:
        points = points[list(which)]
    check_landmarks(mesh, points, len(which), path)
    return points


def points_beside(mesh: Mesh, expected: str, unit: float = 1.0) -> tuple[np.ndarray, Path]:
    """(points [P, 3] of the first of the files that `read_landmarks` looks for, their path), else the embedded model's.

    ValueError where there are none, which tells what is expected.
    """
    for suffix in POINT_SUFFIXES:
        path = mesh.path.with_suffix(suffix)
        if path.exists():
            return unit * read_points(path), path
    points = _embedded(mesh)
    if points is None:
        raise ValueError(f"{mesh.path}: found no landmarks beside it, expected {mesh.path.stem}.npy, .txt, .npz or "
                         f".pp with {expected}")
    return points, mesh.path


def check_landmarks(mesh: Mesh, points: np.ndarray, count: int, path: Path) -> None:
    """ValueError unless points are [count, 3], finite and near the mesh."""
    if points.shape != (count, 3):
        raise ValueError(f"{path}: found landmarks of shape {points.shape}, expected ({count}, 3)")
    if not np.isfinite(points).all():
        raise ValueError(f"{path}: landmark {int(np.argmin(np.isfinite(points).all(1)))} is not finite")
    size = np.linalg.norm(np.ptp(mesh.vertices, axis=0))
    away = cKDTree(mesh.vertices).query(points)[0]
    if away.max() > _OFF_THE_MESH * size:
        raise ValueError(f"{path}: landmark {int(away.argmax())} is {away.max():.4g} from the mesh, which is "
                         f"{size:.4g} large: do both have one unit and place?")


def check_order(points: np.ndarray, true: np.ndarray, path: Path) -> None:
    """ValueError where the seven landmarks [7, 3] of a prediction cannot be those of a scan: in another order, or of a
    mirrored mesh, which no rotation brings onto it."""
    def misfit(some):
        left = similarity_between(some, true, scale=True).apply(some) - true
        return float(np.sqrt(np.square(left).sum(1).mean()) / np.linalg.norm(true[0] - true[3]))

    found, mirrored = misfit(points), misfit(points[_MIRRORED])
    if 2 * mirrored < found:
        raise ValueError(f"{path}: found landmarks with left and right exchanged, or of a mirrored mesh, expected "
                         f"iBUG's {', '.join(map(str, NOW_LANDMARKS))}")
    if found > _MISFIT:
        raise ValueError(f"{path}: found landmarks off the scan's by {found:.2f} of the distance of the eyes (rms), "
                         f"expected at most {_MISFIT:g}: iBUG's {', '.join(map(str, NOW_LANDMARKS))}, in this order")


def read_prediction(path: Path, unit: float = 1.0, scale_free: bool = False) -> Mesh:
    """A predicted neutral mesh: `read_mesh`, and no expression where it can be known, from the params.npz that the
    reconstruct command writes beside it.

    Raises:
      ValueError: whatever is wrong with the file, or an expression in the mesh.
    """
    mesh = read_mesh(path, unit, scale_free)
    for beside in (path.parent / PARAMETERS, path.with_name(f"{path.stem}_{PARAMETERS}")):
        if beside.exists() and (expression := expression_in(read_face(beside), mesh.vertices)):
            raise ValueError(f"{path}: includes an expression ({expression} in {beside.name}), expected the neutral "
                             "mesh: the identity decoded alone, as --protocol=now writes it with --photos")
    return mesh


def refuse_expressions(folder: str | Path) -> None:
    """ValueError where a folder holds meshes of the reconstruct command as they are, with expressions."""
    for parameters in (path for path in files_below(folder) if path.name == PARAMETERS):
        for path in sorted(parameters.parent.iterdir()):
            if path.suffix.lower() in MESH_SUFFIXES:
                read_prediction(path, scale_free=True)


def read_points(path: Path) -> np.ndarray:
    """[P, 3] of a file of points. ValueError names the file."""
    points = _read_points(path)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"{path}: found points of shape {points.shape}, expected [P, 3]")
    return points


def _read_points(path):
    if path.suffix == ".npy":
        return read_array(path)
    if path.suffix == ".npz":
        return numbers(path, "landmarks", read_key(path, "landmarks")).astype(np.float64)
    try:
        if path.suffix == ".pp":
            points = ElementTree.parse(path).iter("point")
            return np.array([[float(point.get(axis)) for axis in "xyz"] for point in points])
        return np.array([line.replace(",", " ").split() for line in path.read_text().splitlines() if line.strip()],
                        np.float64)
    except (OSError, ValueError, TypeError, ElementTree.ParseError) as error:
        raise ValueError(f"{path}: not readable as points x y z ({error})") from None


def _embedded(mesh):
    """The 68 landmarks of a mesh with the triangles of the embedded model, None of another."""
    for detail in (0, 1):
        topology = load_default(detail).topology
        if topology.triangles.shape == mesh.triangles.shape and (topology.triangles == mesh.triangles).all():
            return mesh.vertices[topology.landmarks]
    return None
