"""What every reader ends with: arrays of a file, checked and brought to our axes, units and conventions.

Millimetres; x to the image's right, y up, z towards the viewer; outward triangles; one unit of an identity code is one
standard deviation. What a format has no place for is empty or estimated: landmarks of shape [0] where none are known,
UVs of shape [0, 2], no regions, an even skin tone without components, contour lines and symmetry from the mean shape.
"""

import os
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import scipy.spatial
from jaxtyping import Float, Int

from sfm_jax.array_files import integers, numbers, triangle_indices
from sfm_jax.morphable.formats.landmarks import slide_lines
from sfm_jax.morphable.model import MorphableModel, Topology

SKIN = np.log(np.float32([0.60, 0.51, 0.44]))  # log linear RGB, where a file has no colours
UNITS = {"m": 1000.0, "dm": 100.0, "cm": 10.0, "mm": 1.0, "um": 0.001}
"""Millimetres per unit of length."""
EYES_APART = (60.0, 130.0)  # mm between the outer corners of the eyes: children to broad faces
EXTENT = (100.0, 600.0)  # mm of the longest side of the mean's box: masks to busts
NO_LICENCE = "not in the file: as its publisher says"


def assemble(
    path: str | os.PathLike,
    *,
    mean: np.ndarray,
    triangles: np.ndarray,
    identity: np.ndarray,
    expression: np.ndarray | None = None,
    expression_names: Sequence[str] = (),
    expression_kind: str = "activations",
    albedo: tuple[np.ndarray, np.ndarray] | None = None,
    uv: np.ndarray | None = None,
    uv_triangles: np.ndarray | None = None,
    landmarks: np.ndarray | Sequence[int] | None = None,
    contour_lines: np.ndarray | None = None,
    millimetres: float = 1.0,
    name: str = "",
    source: str = "",
    licence: str = NO_LICENCE,
) -> MorphableModel:
    """A MorphableModel of what a reader found in `path`.

    Args:
      path: the file, for errors.
      mean: [V, 3] in the file's unit.
      triangles: [F, 3], of either winding: the model's are outward.
      identity: [K, V, 3], each at one standard deviation, in the file's unit.
      expression: [E, V, 3] at full expression, or at one standard deviation; with their names ("expression 1", .. if
        none) and their kind (see MorphableModel).
      albedo: mean [V, 3] and basis [A, V, 3] of log linear RGB.
      uv: [U, 2], v upwards, with uv_triangles [F, 3]; None is one for each vertex.
      landmarks: [68] vertices in iBUG's order, or None.
      contour_lines: [17, L] vertices; None estimates them from the mean's shape.
      millimetres: per unit of the file.
      name, source, licence: texts; the name is the file's if empty.

    Raises:
      ValueError: naming the file and the part that is not sound: shapes, indices, numbers, axes, and lengths that are
        no face's in millimetres, with the factor that would make them so.
    """
    mean = _vertices(path, "mean", mean)
    count = len(mean)
    identity = _basis(path, "identity", identity, count)
    expression = _basis(path, "expression", np.zeros((0, count, 3)) if expression is None else expression, count)
    expression_names = tuple(expression_names) or tuple(f"expression {i + 1}" for i in range(len(expression)))
    if len(expression_names) != len(expression):
        raise ValueError(f"{path}: expression names: found {len(expression_names)}, expected {len(expression)}")
    triangles = triangle_indices(path, "triangles", triangles, count)
    uv, uv_triangles = _texture(path, uv, uv_triangles, triangles)
    landmarks = np.zeros(0, np.int32) if landmarks is None else _landmarks(path, landmarks, count)

    if millimetres != 1:
        mean, identity, expression = (np.float32(millimetres) * part for part in (mean, identity, expression))
    check_size(path, mean, landmarks)
    check_axes(path, mean, landmarks)
    if _inward(mean, triangles):
        triangles, uv_triangles = triangles[:, ::-1].copy(), uv_triangles[:, ::-1].copy()
    if contour_lines is None:
        contour_lines = slide_lines(mean, landmarks) if len(landmarks) else np.zeros((0, 1), np.int32)
    albedo_mean, albedo_basis = albedo or (np.broadcast_to(SKIN, (count, 3)), np.zeros((0, count, 3), np.float32))
    topology = Topology(
        triangles=triangles, uv=uv, uv_triangles=uv_triangles, landmarks=landmarks,
        contour_lines=np.asarray(contour_lines, np.int32), region_names=(), regions=np.zeros((0, count), np.float32),
        symmetry=mirror_images(mean, landmarks))
    return MorphableModel(
        mean=jnp.asarray(mean), identity_basis=jnp.asarray(identity), identity_sigma=jnp.asarray(rms(identity)),
        expression_basis=jnp.asarray(expression),
        albedo_mean=jnp.asarray(_vertices(path, "albedo mean", albedo_mean, count)),
        albedo_basis=jnp.asarray(_basis(path, "albedo", albedo_basis, count)),
        topology=topology, expression_names=expression_names, expression_kind=expression_kind,
        name=name or os.path.basename(path), licence=licence, source=source, albedo_space="log")


def points(path: str | os.PathLike, key: str, values: np.ndarray) -> Float[np.ndarray, "V 3"]:
    """[V, 3] of an array [V, 3], or of 3V numbers in one row or column, x, y, z of vertex after vertex. ValueError of
    any other shape: of [3, V] the order is another."""
    values = numbers(path, key, values)
    plain = values.reshape([length for length in values.shape if length != 1])
    if not plain.size or plain.size % 3 or plain.ndim > 2 or plain.ndim == 2 and plain.shape[1] != 3:
        raise ValueError(f"{path}: {key}: shape {values.shape}, expected [vertices, 3], or 3 numbers a vertex in a row")
    return plain.reshape(-1, 3)


def columns(path: str | os.PathLike, key: str, matrix: np.ndarray) -> Float[np.ndarray, "K V 3"]:
    """[K, V, 3] of a matrix [3V, K] whose rows are x, y, z of vertex after vertex. ValueError if they are not."""
    matrix = numbers(path, key, matrix)
    if matrix.ndim != 2 or len(matrix) % 3:
        raise ValueError(f"{path}: {key}: shape {matrix.shape}, expected [3 x vertices, components]")
    return np.ascontiguousarray(matrix.T).reshape(matrix.shape[1], len(matrix) // 3, 3)


def rms(basis: Float[np.ndarray, "K V 3"]) -> Float[np.ndarray, " K"]:
    """Root mean square length [K] over the vertices of basis [K, V, 3]."""
    return np.sqrt(np.mean(np.sum(np.square(basis, dtype=np.float64), -1), -1)).astype(np.float32)


def unit_factor(unit: str) -> float:
    """Millimetres per `unit`. ValueError names the units there are."""
    if unit not in UNITS:
        raise ValueError(f"unit: found {unit!r}, expected one of {', '.join(UNITS)}")
    return UNITS[unit]


def check_size(path: str | os.PathLike, mean: Float[np.ndarray, "V 3"], landmarks: Int[np.ndarray, " L"]) -> None:
    """ValueError unless mean [V, 3] is as large as faces are in mm; it names the factor that would make it so."""
    if len(landmarks):
        (low, high), what = EYES_APART, "between the outer corners of the eyes"
        size = np.linalg.norm(mean[landmarks[36]] - mean[landmarks[45]])
    else:
        (low, high), what = EXTENT, "along its longest side"
        size = np.ptp(mean, axis=0).max()
    if low <= size <= high:
        return
    fitting = [f"multiply by {factor:g}, as if in {unit}" for unit, factor in UNITS.items()
               if low <= factor * size <= high]
    raise ValueError(f"{path}: the mean face measures {size:.4g} {what}, expected {low:g} to {high:g} mm"
                     + (f" ({fitting[0]})" if fitting else ""))


def check_axes(path: str | os.PathLike, mean: Float[np.ndarray, "V 3"], landmarks: Int[np.ndarray, " L"]) -> None:
    """ValueError unless a mean [V, 3] with landmarks looks along +z, upright, its right eye at the smaller x."""
    if not len(landmarks):
        return
    right, left, nose, chin = mean[landmarks[[36, 45, 30, 8]]]
    wrong = [text for text, holds in (
        ("its right eye is not at the smaller x", left[0] > right[0]), ("the chin is not below the eyes",
         chin[1] < min(left[1], right[1])), ("the nose is not before the eyes", nose[2] > max(left[2], right[2])))
        if not holds]
    if wrong:
        raise ValueError(f"{path}: axes: {wrong[0]}, expected x to the image's right, y up, z towards the viewer")


def mirror_images(mean: Float[np.ndarray, "V 3"], landmarks: Int[np.ndarray, " L"]) -> Int[np.ndarray, " V"]:
    """[V] int32: the vertex nearest to each one's mirror image, across the middle of the eyes or else of the box."""
    between = mean[landmarks[[36, 45]], 0] if len(landmarks) else [mean[:, 0].min(), mean[:, 0].max()]
    mirrored = mean * np.float32([-1, 1, 1]) + np.float32([sum(between), 0, 0])
    return scipy.spatial.cKDTree(mean).query(mirrored)[1].astype(np.int32)


def _inward(mean, triangles):
    """Do the triangles face the inside? By the sign of the volume between them and the centroid."""
    a, b, c = (mean[triangles[:, corner]].astype(np.float64) - mean.mean(0) for corner in range(3))
    return np.sum(np.cross(a, b) * c) < 0


def _vertices(path, key, values, count=None):
    values = numbers(path, key, values)
    if values.ndim != 2 or values.shape[1] != 3 or len(values) != (count or len(values) or 1):
        raise ValueError(f"{path}: {key}: shape {values.shape}, expected [{count or 'vertices'}, 3]")
    return _finite(path, key, values)


def _texture(path, uv, uv_triangles, triangles):
    """uv [U, 2] and its triangles [F, 3], which are those of the mesh if there are none; empty without UVs."""
    if uv is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 3), np.int32)
    uv = numbers(path, "uv", uv)
    if uv.ndim != 2 or uv.shape[1] != 2:
        raise ValueError(f"{path}: uv: shape {uv.shape}, expected [places, 2]")
    uv = _finite(path, "uv", uv)
    uv_triangles = triangle_indices(path, "uv_triangles", triangles if uv_triangles is None else uv_triangles, len(uv))
    if len(uv_triangles) != len(triangles):
        raise ValueError(f"{path}: uv_triangles: found {len(uv_triangles)}, expected {len(triangles)}")
    return uv, uv_triangles


def _basis(path, key, values, count):
    values = numbers(path, key, values)
    if values.ndim != 3 or values.shape[1:] != (count, 3):
        raise ValueError(f"{path}: {key}: shape {values.shape}, expected [components, {count}, 3]")
    return _finite(path, key, values)


def _finite(path, key, values):
    with np.errstate(over="ignore"):  # found by the next line
        values = np.array(values, np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: {key}: {values.size - np.isfinite(values).sum()} of {values.size} numbers are NaN "
                         "or infinite")
    return values


def _landmarks(path, landmarks, count):
    landmarks = integers(path, "landmarks", landmarks)
    if landmarks.shape != (68,) or landmarks.min() < 0 or landmarks.max() >= count:
        raise ValueError(f"{path}: landmarks: expected 68 vertices in 0..{count - 1}, found {landmarks.size} in "
                         f"{landmarks.min(initial=0)}..{landmarks.max(initial=0)}")
    return landmarks.astype(np.int32)
